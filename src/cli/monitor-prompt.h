/* The prompt of `segue monitor`: line editing, history and completion on a terminal, plain lines else; events are printed as they come. */
#pragma once

#include "cli/monitor-line.h"

/* monitor_prompt: until end of input or the machine's end.  Returns: exit status when *error stays unset: 0, or 1 when a line was refused
 * and stdin is no terminal. */
int monitor_prompt(QmpClient *client, const MonitorNames *names, GError **error);

/* monitor_prompt_event: what the client does with events meanwhile. */
void monitor_prompt_event(void *opaque, JsonObject *event);
