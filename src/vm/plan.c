#include "vm/plan.h"

#include <json-glib/json-glib.h>
#include <string.h>

typedef struct Why {
    const char *rule; /* NULL: nothing against the mode */
    const char *text;
} Why;

static const char *const mode_names[] = { [PLAN_BT] = "bt", [PLAN_HV] = "hv", [PLAN_HWMMU] = "hwmmu" };
static const char *const long_mode_names[] = { [PLAN_LONG_STAY] = "stay", [PLAN_LONG_JUMP] = "jump", [PLAN_LONG_STOP] = "stop" };

const char *plan_mode_name(PlanMode mode) { return mode_names[mode]; }
bool plan_mode_from_name(const char *name, PlanMode *out_mode)
{
    for (PlanMode mode = 0; mode < PLAN_NMODES; mode++)
        if (!strcmp(name, mode_names[mode])) {
            *out_mode = mode;
            return true;
        }
    return false;
}

const char *plan_long_mode_name(PlanLongMode what) { return long_mode_names[what]; }

bool plan_list_has(const PlanList *list, PlanMode mode)
{
    for (unsigned i = 0; i < list->count; i++)
        if (list->mode[i] == mode)
            return true;
    return false;
}

static void list_add(PlanList *list, PlanMode mode) { list->mode[list->count++] = mode; }

static void warn(Plan *plan, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void warn(Plan *plan, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(plan->warnings, g_strdup_vprintf(format, args));
    va_end(args);
}

/* --- 1. allowed --- */

/* What the machine itself cannot do, whoever asks. */
static Why host_forbids(PlanMode mode, bool is_64, const HostFacts *host)
{
    if (is_64 && !host->is_64bit)
        return (Why){ "host-32bit", "a 64-bit guest needs a 64-bit CPU, and the host's has none" };
    if (mode == PLAN_BT)
        return (Why){ 0 };
    if (!host->has_virtualization)
        return (Why){ "host-no-virtualization", host->kvm_text ? host->kvm_text : "the host's CPU has no hardware virtualization" };
    if (mode == PLAN_HWMMU && !host->has_slat)
        return (Why){ "host-no-slat", "the host's CPU has no nested paging (EPT, RVI)" };
    switch (host->kvm) {
    case HOST_KVM_USABLE:
        break;
    case HOST_KVM_MISSING:
        return (Why){ "kvm-missing", host->kvm_text ? host->kvm_text : "/dev/kvm is missing" };
    case HOST_KVM_DENIED:
        return (Why){ "kvm-denied", host->kvm_text ? host->kvm_text : "/dev/kvm is there but must not be opened" };
    case HOST_KVM_BROKEN:
        return (Why){ "kvm-broken", host->kvm_text ? host->kvm_text : "/dev/kvm is there but does not work" };
    }
    bool is_intel = host->vendor == HOST_VENDOR_INTEL;
    if (mode == PLAN_HV && host->slat == HOST_SLAT_ON)
        return (Why){ "module-slat-on", is_intel ? "kvm_intel is loaded with ept=1; `hv` needs ept=0" : "kvm_amd is loaded with npt=1; `hv` needs npt=0" };
    if (mode == PLAN_HWMMU && host->slat == HOST_SLAT_OFF)
        return (Why){ "module-slat-off", is_intel ? "kvm_intel is loaded with ept=0; `hwmmu` needs ept=1" : "kvm_amd is loaded with npt=0; `hwmmu` needs npt=1" };
    return (Why){ 0 };
}

/* What a generation of the product cannot do on a machine that could. */
static Why dialect_forbids(PlanMode mode, bool is_64, const ModeConfig *modes, const HostFacts *host)
{
    Dialect dialect = (Dialect)modes->dialect;
    bool is_amd = host->vendor == HOST_VENDOR_AMD;
    if (mode == PLAN_BT) {
        if (dialect == DIALECT_CURRENT || !is_64 || host->has_segment_limits)
            return (Why){ 0 };
        return is_amd ? (Why){ "64bit-needs-segment-limits", "this dialect translates 64-bit guests on AMD CPUs from Revision D only" }
                      : (Why){ "64bit-needs-vt", "this dialect needs VT-x for 64-bit guests" };
    }
    if (is_amd) {
        switch (dialect) {
        case DIALECT_WS55:
            return (Why){ "dialect-no-amdv", "dialect ws5.5 does not know AMD-V" };
        case DIALECT_WS60:
            if (modes->enable_svm)
                return (Why){ 0 };
            return (Why){ "svm-not-enabled", "dialect ws6.0 uses AMD-V only with monitor_control.enable_svm = \"TRUE\"" };
        case DIALECT_ESX35:
            if (host->has_slat)
                return (Why){ 0 };
            return (Why){ "amdv-needs-rvi", "dialect esx3.5 uses AMD-V only on CPUs with RVI" };
        case DIALECT_WS65:
        case DIALECT_CURRENT:
        case DIALECT_COUNT:
            if (host->is_amd_0fh)
                return (Why){ "no-amdv-on-0fh", "AMD-V is not used on family 0Fh; only dialect ws6.0 does" };
            break;
        }
    } else {
        bool has_ept = dialect == DIALECT_WS65 || dialect == DIALECT_CURRENT;
        if (mode == PLAN_HWMMU && !has_ept)
            return (Why){ "dialect-no-ept", "this dialect does not know EPT" };
        if (dialect == DIALECT_ESX35 && !is_64)
            return (Why){ "vt-64bit-only", "dialect esx3.5 uses VT-x for 64-bit guests only" };
    }
    if ((dialect == DIALECT_WS65 || dialect == DIALECT_CURRENT) && !host->is_64bit)
        return (Why){ "hv-needs-64bit-host", "hardware virtualization needs a 64-bit host CPU in this dialect" };
    return (Why){ 0 };
}

/* --- 2. requested --- */

static Why request_forbids(PlanMode mode, bool is_64, const ModeConfig *modes, const HostFacts *host)
{
    bool is_hardware = mode != PLAN_BT;
    switch ((Dialect)modes->dialect) {
    case DIALECT_WS55:
    case DIALECT_WS60:
        if (host->vendor == HOST_VENDOR_AMD) {
            if (modes->dialect == DIALECT_WS60 && modes->enable_svm && !is_hardware)
                return (Why){ "svm-requested", "monitor_control.enable_svm = \"TRUE\" asks for AMD-V" };
            return (Why){ 0 };
        }
        if (is_64)
            return (Why){ 0 };
        if (modes->vt32 && !is_hardware)
            return (Why){ "vt32-requested", "monitor_control.vt32 = \"TRUE\" asks for VT-x" };
        if (!modes->vt32 && is_hardware)
            return (Why){ "vt32-not-set", "32-bit guests run in bt unless monitor_control.vt32 = \"TRUE\"" };
        return (Why){ 0 };
    case DIALECT_ESX35:
    case DIALECT_WS65:
    case DIALECT_CURRENT:
    case DIALECT_COUNT:
        break;
    }
    if (modes->virtual_exec == MODE_SOFTWARE && is_hardware)
        return (Why){ "requested-exec", "monitor.virtual_exec = \"software\" was asked for" };
    if (modes->virtual_exec == MODE_HARDWARE && !is_hardware)
        return (Why){ "requested-exec", "monitor.virtual_exec = \"hardware\" was asked for" };
    if (modes->virtual_mmu == MODE_SOFTWARE && mode == PLAN_HWMMU)
        return (Why){ "requested-mmu", "monitor.virtual_mmu = \"software\" was asked for" };
    if (modes->virtual_mmu == MODE_HARDWARE && mode != PLAN_HWMMU)
        return (Why){ "requested-mmu", "monitor.virtual_mmu = \"hardware\" was asked for" };
    return (Why){ 0 };
}

/* --- 3. preferred --- */

static void prefer(Plan *plan, const HostFacts *host, const ModeConfig *modes)
{
    static const PlanList orders[] = {
        [PLAN_CELL_BT] = { { PLAN_BT, PLAN_HWMMU, PLAN_HV }, 3 },
        [PLAN_CELL_BT_JUMPS] = { { PLAN_BT, PLAN_HWMMU, PLAN_HV }, 3 },
        [PLAN_CELL_HV] = { { PLAN_HV, PLAN_HWMMU, PLAN_BT }, 3 },
        [PLAN_CELL_HWMMU] = { { PLAN_HWMMU, PLAN_HV, PLAN_BT }, 3 },
        [PLAN_CELL_ORIGINAL_NONE] = { { PLAN_BT, PLAN_HWMMU, PLAN_HV }, 3 },
        [PLAN_CELL_NONE] = { { PLAN_BT, PLAN_HWMMU, PLAN_HV }, 3 },
    };
    plan->preferred = orders[plan_cell(plan->family, host->column)];
}

/* --- 4. filtered, and what follows --- */

static void reason_add(Plan *plan, PlanMode mode, const Why *why)
{
    PlanReason *reason = g_new(PlanReason, 1);
    *reason = (PlanReason){ .mode = mode, .rule = why->rule, .text = g_strdup_printf("%s: %s", mode_names[mode], why->text) };
    g_ptr_array_add(plan->reasons, reason);
}

static char *list_text(const PlanList *list)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < list->count; i++)
        g_string_append_printf(text, "%s%s", i ? ", " : "", mode_names[list->mode[i]]);
    return g_string_free(text, FALSE);
}

/* The reasons against the modes of @list, in one line. */
static char *reasons_text(const Plan *plan, const PlanList *list)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < plan->reasons->len; i++) {
        const PlanReason *reason = g_ptr_array_index(plan->reasons, i);
        if (plan_list_has(list, reason->mode))
            g_string_append_printf(text, "%s%s", text->len ? "; " : "", reason->text);
    }
    return g_string_free(text, FALSE);
}

static void choose_start(Plan *plan, const ModeConfig *modes)
{
    plan->has_start = plan->filtered.count > 0;
    if (plan->has_start) {
        plan->start = plan->filtered.mode[0];
        return;
    }
    g_autofree char *asked = list_text(&plan->requested), *missing = reasons_text(plan, &plan->requested);
    if (modes->fallback == FALLBACK_NEVER) {
        warn(plan, "asked for %s; %s; monitor.fallback = \"never\" forbids anything else", asked, missing);
        return;
    }
    for (unsigned i = 0; i < plan->preferred.count && !plan->has_start; i++)
        if (plan_list_has(&plan->allowed, plan->preferred.mode[i])) {
            plan->has_start = plan->is_fallback = true;
            plan->start = plan->preferred.mode[i];
        }
    if (plan->has_start)
        warn(plan, "asked for %s; %s; %s is used instead", asked, missing, mode_names[plan->start]);
    else
        warn(plan, "this guest cannot run here: %s%s", missing,
             modes->dialect == DIALECT_CURRENT ? "" : "; config.dialect = \"current\" may");
}

/* Which hardware mode a guest in bt could move to, by host and dialect; false: none. */
static bool hardware_target(const ModeConfig *modes, const HostFacts *host, PlanMode *out_mode)
{
    static const PlanMode order[] = { PLAN_HWMMU, PLAN_HV };
    for (size_t i = 0; i < G_N_ELEMENTS(order); i++) {
        /* The guest is a 64-bit one from now on. */
        Why by_host = host_forbids(order[i], true, host), by_dialect = dialect_forbids(order[i], true, modes, host);
        bool is_refused = modes->virtual_mmu == MODE_SOFTWARE && order[i] == PLAN_HWMMU;
        if (!by_host.rule && !by_dialect.rule && !is_refused) {
            *out_mode = order[i];
            return true;
        }
    }
    return false;
}

static void choose_long_mode(Plan *plan, const ModeConfig *modes, const HostFacts *host)
{
    bool is_64 = plan->family == PLAN_FAMILY_64, is_current = modes->dialect == DIALECT_CURRENT;
    plan->long_mode = PLAN_LONG_STAY;
    if (!plan->has_start) {
        plan->long_mode = PLAN_LONG_STOP;
        return;
    }
    if (plan->start != PLAN_BT || (is_current && modes->long_mode == LONG_MODE_BT))
        return;
    bool has_target = hardware_target(modes, host, &plan->long_mode_target);
    if (modes->long_mode == LONG_MODE_HARDWARE) {
        plan->long_mode = has_target ? PLAN_LONG_JUMP : PLAN_LONG_STOP;
        if (has_target)
            return;
        Why why = host_forbids(PLAN_HV, false, host);
        if (!why.rule)
            why = dialect_forbids(PLAN_HV, true, modes, host);
        warn(plan, "monitor.long_mode = \"hardware\": no hardware mode is available%s%s", why.rule ? ": " : "", why.rule ? why.text : "");
        if (is_64)
            plan->has_start = false;
        return;
    }
    if (!host->is_64bit) {
        plan->long_mode = PLAN_LONG_STOP;
        return;
    }
    bool stays_on_amd = host->vendor == HOST_VENDOR_AMD && (is_current || host->has_segment_limits);
    if (stays_on_amd && has_target)
        return;
    /* An explicit wish for software is kept where software can do it. */
    if (is_current && modes->virtual_exec == MODE_SOFTWARE)
        return;
    if (has_target && plan_cell(plan->family, host->column) == PLAN_CELL_BT)
        return; /* without a star in the table */
    if (has_target && host->vendor == HOST_VENDOR_INTEL) {
        plan->long_mode = PLAN_LONG_JUMP;
    } else if (is_current || stays_on_amd) {
        if (is_64)
            warn(plan, "a 64-bit guest without hardware to move to: it stays in bt");
    } else {
        plan->long_mode = PLAN_LONG_STOP; /* the original cannot go on */
    }
}

static void reason_free(gpointer data)
{
    PlanReason *reason = data;
    g_free(reason->text);
    g_free(reason);
}

static void warn_experimental(Plan *plan, const ModeConfig *modes, const HostFacts *host)
{
    bool is_amd = host->vendor == HOST_VENDOR_AMD;
    if (modes->vt32)
        warn(plan, "monitor_control.vt32 = \"TRUE\" was never supported%s", is_amd ? ", and means nothing on an AMD host" : "");
    if (modes->enable_svm)
        warn(plan, "monitor_control.enable_svm = \"TRUE\" is experimental%s", is_amd ? "" : ", and means nothing on this host");
    if (host->kvm_text && (host->kvm == HOST_KVM_BROKEN || host->kvm == HOST_KVM_DENIED))
        warn(plan, "%s", host->kvm_text);
}

Plan *plan_new(const PlanInput *input, const HostFacts *host)
{
    const ModeConfig *modes = input->modes;
    Plan *plan = g_new0(Plan, 1);
    plan->reasons = g_ptr_array_new_with_free_func(reason_free);
    plan->warnings = g_ptr_array_new_with_free_func(g_free);
    bool is_known;
    plan->family = plan_family(input->guest_os, input->is_vmi, &is_known);
    if (!is_known)
        warn(plan, "guestOS = \"%s\" is not known; taken as %s", input->guest_os, plan_family_name(plan->family));
    warn_experimental(plan, modes, host);
    bool is_64 = plan->family == PLAN_FAMILY_64;
    for (PlanMode mode = 0; mode < PLAN_NMODES; mode++) {
        Why by_host = host_forbids(mode, is_64, host), by_dialect = dialect_forbids(mode, is_64, modes, host);
        Why by_user = request_forbids(mode, is_64, modes, host);
        const Why *why = by_host.rule ? &by_host : by_dialect.rule ? &by_dialect : &by_user;
        if (!by_host.rule && !by_dialect.rule)
            list_add(&plan->allowed, mode);
        if (!by_user.rule)
            list_add(&plan->requested, mode);
        if (why->rule)
            reason_add(plan, mode, why);
    }
    prefer(plan, host, modes);
    for (unsigned i = 0; i < plan->preferred.count; i++) {
        PlanMode mode = plan->preferred.mode[i];
        if (plan_list_has(&plan->allowed, mode) && plan_list_has(&plan->requested, mode))
            list_add(&plan->filtered, mode);
    }
    choose_start(plan, modes);
    choose_long_mode(plan, modes, host);
    return plan;
}

void plan_free(Plan *plan)
{
    if (!plan)
        return;
    g_ptr_array_free(plan->reasons, TRUE);
    g_ptr_array_free(plan->warnings, TRUE);
    g_free(plan);
}

/* --- printing --- */

char *plan_text(const Plan *plan, const HostFacts *host)
{
    GString *text = g_string_new(NULL);
    const struct {
        const char *name;
        const PlanList *list;
    } lists[] = { { "allowed by the host", &plan->allowed },
                  { "requested by the user", &plan->requested },
                  { "preferred for the guest", &plan->preferred },
                  { "filtered", &plan->filtered } };
    g_string_append_printf(text, "%-25s %s\n%-25s %s%s\n", "host:", host->name, "guest:", plan_family_name(plan->family),
                           plan_cell_is_derived(plan->family, host->column) ? " (this row of the table is derived for AMD)" : "");
    for (size_t i = 0; i < G_N_ELEMENTS(lists); i++) {
        g_autofree char *modes = list_text(lists[i].list), *name = g_strdup_printf("%s:", lists[i].name);
        g_string_append_printf(text, "%-25s %s\n", name, *modes ? modes : "nothing");
    }
    g_string_append_printf(text, "%-25s %s%s\n", "start:", plan->has_start ? mode_names[plan->start] : "none",
                           plan->is_fallback ? " (fallback)" : "");
    g_string_append_printf(text, "%-25s %s%s%s\n", "at long-mode entry:", long_mode_names[plan->long_mode],
                           plan->long_mode == PLAN_LONG_JUMP ? " to " : "",
                           plan->long_mode == PLAN_LONG_JUMP ? mode_names[plan->long_mode_target] : "");
    for (guint i = 0; i < plan->reasons->len; i++) {
        const PlanReason *reason = g_ptr_array_index(plan->reasons, i);
        g_string_append_printf(text, "not %s [%s]\n", reason->text, reason->rule);
    }
    for (guint i = 0; i < plan->warnings->len; i++)
        g_string_append_printf(text, "warning: %s\n", (const char *)g_ptr_array_index(plan->warnings, i));
    return g_string_free(text, FALSE);
}

static void json_list(JsonBuilder *builder, const char *name, const PlanList *list)
{
    json_builder_set_member_name(builder, name);
    json_builder_begin_array(builder);
    for (unsigned i = 0; i < list->count; i++)
        json_builder_add_string_value(builder, mode_names[list->mode[i]]);
    json_builder_end_array(builder);
}

char *plan_json(const Plan *plan, const HostFacts *host)
{
    g_autoptr(JsonBuilder) builder = json_builder_new();
    json_builder_begin_object(builder);
    json_builder_set_member_name(builder, "host");
    json_builder_add_string_value(builder, host->name);
    json_builder_set_member_name(builder, "guest");
    json_builder_add_string_value(builder, plan_family_name(plan->family));
    json_list(builder, "allowed", &plan->allowed);
    json_list(builder, "requested", &plan->requested);
    json_list(builder, "preferred", &plan->preferred);
    json_list(builder, "filtered", &plan->filtered);
    json_builder_set_member_name(builder, "start");
    if (plan->has_start)
        json_builder_add_string_value(builder, mode_names[plan->start]);
    else
        json_builder_add_null_value(builder);
    json_builder_set_member_name(builder, "longMode");
    json_builder_add_string_value(builder, long_mode_names[plan->long_mode]);
    json_builder_set_member_name(builder, "reasons");
    json_builder_begin_array(builder);
    for (guint i = 0; i < plan->reasons->len; i++) {
        const PlanReason *reason = g_ptr_array_index(plan->reasons, i);
        json_builder_begin_object(builder);
        json_builder_set_member_name(builder, "mode");
        json_builder_add_string_value(builder, mode_names[reason->mode]);
        json_builder_set_member_name(builder, "rule");
        json_builder_add_string_value(builder, reason->rule);
        json_builder_set_member_name(builder, "text");
        json_builder_add_string_value(builder, reason->text);
        json_builder_end_object(builder);
    }
    json_builder_end_array(builder);
    json_builder_set_member_name(builder, "warnings");
    json_builder_begin_array(builder);
    for (guint i = 0; i < plan->warnings->len; i++)
        json_builder_add_string_value(builder, g_ptr_array_index(plan->warnings, i));
    json_builder_end_array(builder);
    json_builder_end_object(builder);
    g_autoptr(JsonNode) root = json_builder_get_root(builder);
    char *line = json_to_string(root, TRUE);
    char *text = g_strconcat(line, "\n", NULL);
    g_free(line);
    return text;
}
