#include "monitor/hmp-session.h"

#include <string.h>

#include "monitor/hmp.h"

#define LINE_MAX_BYTES 4096u
#define PROMPT "(qemu) "

struct HmpSession {
    Vm *vm;
    HmpOutput *write;
    void *opaque;
    GString *line;
    unsigned escape; /* bytes of an ESC [ sequence seen: arrow keys are swallowed */
    bool greeted, was_return; /* the last key was CR: an LF behind it is part of it */
};

/* The terminal is raw: "\n" becomes "\r\n". */
static void session_print(HmpSession *session, const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autofree char *joined = g_strjoinv("\r\n", lines);
    session->write(session->opaque, joined, strlen(joined));
}

static void session_enter(HmpSession *session)
{
    session_print(session, "\n");
    g_autofree char *out = hmp_execute(session->vm, session->line->str);
    g_string_truncate(session->line, 0);
    session_print(session, out);
    session_print(session, PROMPT);
}

void hmp_session_key(HmpSession *session, char key)
{
    bool is_second = session->was_return && key == '\n';
    session->was_return = key == '\r';
    if (is_second)
        return;
    if (session->escape) { /* ESC, then [, then parameters up to a letter or ~ */
        session->escape = (session->escape == 1 && key == '[') || (session->escape == 2 && !g_ascii_isalpha(key) && key != '~') ? 2 : 0;
        return;
    }
    switch (key) {
    case 27:
        session->escape = 1;
        return;
    case '\r':
    case '\n':
        session_enter(session);
        return;
    case 8:
    case 127:
        if (session->line->len) {
            g_string_truncate(session->line, session->line->len - 1);
            session_print(session, "\b \b");
        }
        return;
    case 21: /* Ctrl-U */
        while (session->line->len) {
            g_string_truncate(session->line, session->line->len - 1);
            session_print(session, "\b \b");
        }
        return;
    default:
        if ((unsigned char)key < 32 || session->line->len >= LINE_MAX_BYTES)
            return;
        g_string_append_c(session->line, key);
        session->write(session->opaque, &key, 1);
    }
}

void hmp_session_greet(HmpSession *session)
{
    g_string_truncate(session->line, 0);
    session_print(session, session->greeted ? "\n" PROMPT : "QEMU 7.2.0 monitor (Segue 0.1.0) - type 'help' for more information\n" PROMPT);
    session->greeted = true;
}

void hmp_session_set_vm(HmpSession *session, Vm *vm) { session->vm = vm; }

HmpSession *hmp_session_new(HmpOutput *write, void *opaque)
{
    HmpSession *session = g_new0(HmpSession, 1);
    session->write = write;
    session->opaque = opaque;
    session->line = g_string_new(NULL);
    return session;
}

void hmp_session_free(HmpSession *session)
{
    if (!session)
        return;
    g_string_free(session->line, TRUE);
    g_free(session);
}
