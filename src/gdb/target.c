#include "gdb/target.h"

#include <string.h>

#include "gdb/packet.h"
#include "gdb/registers.h"
#include "monitor/hmp.h"
#include "vm/inspect.h"

#define READ_MAX (GDB_PACKET_MAX / 2 - 8)
#define SIGNAL_TRAP 5u

struct GdbTarget {
    Vm *vm;
    const GdbRegister *registers;
    unsigned nregisters, ncpus;
    char *xml;
    GdbPoints *points;
    unsigned current; /* the vCPU that g, m and P are about */
    unsigned resumed; /* for c and s */
    X86State *state;  /* scratch */
    bool wants_acks, has_swbreak, is_physical;
};

GdbTarget *gdb_target_new(Vm *vm)
{
    GdbTarget *target = g_new0(GdbTarget, 1);
    bool is_64 = vm_has_long_mode(vm);
    target->vm = vm;
    target->ncpus = vm_config(vm)->ncpus;
    target->registers = gdb_registers(is_64, &target->nregisters);
    target->xml = gdb_target_xml(is_64);
    target->points = gdb_points_new();
    target->state = g_new0(X86State, 1);
    target->wants_acks = true;
    return target;
}

void gdb_target_free(GdbTarget *target)
{
    if (!target)
        return;
    gdb_points_free(target->points);
    g_free(target->state);
    g_free(target->xml);
    g_free(target);
}

bool gdb_target_wants_acks(const GdbTarget *target) { return target->wants_acks; }

void gdb_target_begin(GdbTarget *target)
{
    target->wants_acks = true;
    target->has_swbreak = target->is_physical = false;
    target->current = target->resumed = 0;
}

void gdb_target_release(GdbTarget *target)
{
    gdb_points_clear(target->points);
    for (unsigned i = 0; i < target->ncpus; i++)
        vm_debug(target->vm, i, NULL, false, NULL);
}

static void error_reply(GString *reply, const char *text) { g_string_append_printf(reply, "E.%s", text); }

/* --- threads --- */

/* "-1" and "0" are any: the current one.  False: there is none of that number. */
static bool thread_parse(const GdbTarget *target, const char **text, unsigned *out_index)
{
    uint64_t number;
    if (g_str_has_prefix(*text, "-1")) {
        *text += 2;
        *out_index = target->current;
        return true;
    }
    if (!gdb_number(text, &number) || number > target->ncpus)
        return false;
    *out_index = number ? (unsigned)number - 1 : target->current;
    return true;
}

static void thread_list(const GdbTarget *target, GString *reply)
{
    for (unsigned i = 0; i < target->ncpus; i++)
        g_string_append_printf(reply, "%c%x", i ? ',' : 'm', i + 1);
}

static void thread_describe(const GdbTarget *target, const char *text, GString *reply)
{
    unsigned index;
    if (!thread_parse(target, &text, &index)) {
        error_reply(reply, "there is no such thread");
        return;
    }
    vm_cpu_state(target->vm, index, target->state);
    g_autofree char *name = g_strdup_printf("CPU#%u [%s]", index, target->state->halted ? "halted" : "running");
    gdb_hex_append(reply, name, strlen(name));
}

/* "Hg1", "Hc-1" */
static void thread_select(GdbTarget *target, const char *text, GString *reply)
{
    unsigned index;
    const char *number = text + 1;
    if ((*text != 'g' && *text != 'c') || !thread_parse(target, &number, &index) || *number) {
        error_reply(reply, "there is no such thread");
        return;
    }
    if (*text == 'g')
        target->current = index;
    else
        target->resumed = index;
    g_string_append(reply, "OK");
}

void gdb_target_stopped(GdbTarget *target, unsigned index, const CpuExit *exit, unsigned signal, GString *reply)
{
    static const char *const watches[] = { [GDB_POINT_WRITE] = "watch", [GDB_POINT_READ] = "rwatch", [GDB_POINT_ACCESS] = "awatch" };
    target->current = target->resumed = index;
    g_string_append_printf(reply, "T%02x", exit ? SIGNAL_TRAP : signal);
    if (exit && exit->stop == CPU_STOP_WATCH)
        g_string_append_printf(reply, "%s:%" G_GINT64_MODIFIER "x;", watches[gdb_points_find(target->points, exit->address, true)], exit->address);
    else if (exit && exit->stop == CPU_STOP_BREAK && target->has_swbreak)
        g_string_append(reply, gdb_points_find(target->points, exit->address, false) == GDB_POINT_HARD ? "hwbreak:;" : "swbreak:;");
    g_string_append_printf(reply, "thread:%x;", index + 1);
}

/* --- registers --- */

static void register_append(const GdbTarget *target, unsigned index, GString *reply)
{
    uint8_t bytes[GDB_REGISTER_MAX_BYTES];
    unsigned size = gdb_register_get(gdb_register_at(target->registers, index), target->state, bytes);
    gdb_hex_append(reply, bytes, size);
}

static void registers_read(GdbTarget *target, GString *reply)
{
    vm_cpu_state(target->vm, target->current, target->state);
    for (unsigned i = 0; i < target->nregisters; i++)
        register_append(target, i, reply);
}

static void registers_write(GdbTarget *target, const char *digits, GString *reply)
{
    vm_cpu_state(target->vm, target->current, target->state);
    for (unsigned i = 0; i < target->nregisters && *digits; i++) {
        const GdbRegister *reg = gdb_register_at(target->registers, i);
        uint8_t bytes[GDB_REGISTER_MAX_BYTES];
        unsigned size = gdb_register_size(reg);
        if (!gdb_hex_bytes(digits, bytes, size)) {
            error_reply(reply, "malformed registers");
            return;
        }
        gdb_register_set(reg, target->state, bytes);
        digits += 2 * size;
    }
    vm_cpu_load(target->vm, target->current, target->state);
    g_string_append(reply, "OK");
}

static void register_read(GdbTarget *target, const char *text, GString *reply)
{
    uint64_t index;
    if (!gdb_number(&text, &index) || *text || index >= target->nregisters) {
        g_string_append(reply, "E16");
        return;
    }
    vm_cpu_state(target->vm, target->current, target->state);
    register_append(target, (unsigned)index, reply);
}

static void register_write(GdbTarget *target, const char *text, GString *reply)
{
    uint64_t index;
    uint8_t bytes[GDB_REGISTER_MAX_BYTES];
    if (!gdb_number(&text, &index) || *text != '=' || index >= target->nregisters) {
        error_reply(reply, "there is no such register");
        return;
    }
    const GdbRegister *reg = gdb_register_at(target->registers, (unsigned)index);
    if (!gdb_hex_bytes(text + 1, bytes, gdb_register_size(reg))) {
        error_reply(reply, "malformed value");
        return;
    }
    vm_cpu_state(target->vm, target->current, target->state);
    if (!gdb_register_set(reg, target->state, bytes)) {
        g_string_append_printf(reply, "E.%s can be looked at only", gdb_register_name(reg));
        return;
    }
    vm_cpu_load(target->vm, target->current, target->state);
    g_string_append(reply, "OK");
}

/* --- memory --- */

/* The bytes at @gva up to the end of their page, on the host.  NULL: nothing is mapped there, or no memory. */
static uint8_t *page_find(const GdbTarget *target, Gva gva, Gpa *out_gpa, bool is_write)
{
    Ram *ram = vm_ram(target->vm);
    *out_gpa = gva;
    if (!target->is_physical) {
        InspectPage page;
        if (!inspect_find(target->state, ram, gva, &page))
            return NULL;
        *out_gpa = page.gpa + (gva - page.gva);
    }
    const RamSlot *slot = ram_find(ram, *out_gpa);
    return slot && !(is_write && slot->is_rom) ? ram_slice(ram, *out_gpa, 1) : NULL;
}

static bool range_parse(const char **text, uint64_t *out_start, uint64_t *out_size)
{
    if (!gdb_number(text, out_start) || *(*text)++ != ',' || !gdb_number(text, out_size))
        return false;
    return true;
}

static void memory_read(GdbTarget *target, const char *text, GString *reply)
{
    uint64_t gva, size;
    if (!range_parse(&text, &gva, &size) || *text) {
        g_string_append(reply, "E16"); /* gdb takes no words here */
        return;
    }
    size = MIN(size, READ_MAX);
    vm_cpu_state(target->vm, target->current, target->state);
    uint64_t done = 0;
    while (done < size) {
        Gpa gpa;
        const uint8_t *host = page_find(target, gva + done, &gpa, false);
        if (!host)
            break;
        uint64_t here = MIN(size - done, PAGE_SIZE - page_offset(gva + done));
        gdb_hex_append(reply, host, here);
        done += here;
    }
    if (size && !done)
        g_string_append(reply, "E0e");
}

static bool memory_write(GdbTarget *target, Gva gva, const uint8_t *bytes, uint64_t size)
{
    vm_cpu_state(target->vm, target->current, target->state);
    for (uint64_t done = 0; done < size;) {
        Gpa gpa;
        uint8_t *host = page_find(target, gva + done, &gpa, true);
        if (!host)
            return false;
        uint64_t here = MIN(size - done, PAGE_SIZE - page_offset(gva + done));
        memcpy(host, bytes + done, here);
        ram_wrote(vm_ram(target->vm), gpa, here);
        done += here;
    }
    return true;
}

/* "Maddr,size:digits" and "Xaddr,size:bytes" */
static void memory_command(GdbTarget *target, const char *body, size_t count, GString *reply)
{
    const char *text = body + 1;
    uint64_t gva, size;
    if (!range_parse(&text, &gva, &size) || *text++ != ':') {
        error_reply(reply, "malformed range");
        return;
    }
    size_t left = count - (size_t)(text - body);
    g_autofree uint8_t *bytes = g_malloc(left + 1);
    bool is_well = *body == 'X' ? size == left : size <= left && 2 * size == left && gdb_hex_bytes(text, bytes, size);
    if (is_well && *body == 'X')
        memcpy(bytes, text, left);
    if (!is_well)
        error_reply(reply, "malformed bytes");
    else if (!memory_write(target, gva, bytes, size))
        error_reply(reply, "no memory is mapped there, or it is read-only");
    else
        g_string_append(reply, "OK");
}

/* --- break- and watchpoints: "Z0,addr,kind" --- */

static void point_command(GdbTarget *target, const char *body, GString *reply)
{
    const char *text = body + 2;
    uint64_t gva, size;
    int kind = g_ascii_digit_value(body[1]);
    if (kind < 0 || kind >= GDB_POINT_NKINDS)
        return; /* not supported */
    if (*text++ != ',' || !range_parse(&text, &gva, &size)) {
        error_reply(reply, "malformed point");
        return;
    }
    if (*body == 'z') {
        gdb_points_remove(target->points, (GdbPointKind)kind, gva, size);
    } else if (!gdb_points_add(target->points, (GdbPointKind)kind, gva, size)) {
        error_reply(reply, "too many points, or a watchpoint of more than 4096 bytes");
        return;
    } else {
        const CpuDebug debug = gdb_points_debug(target->points);
        unsigned room = vm_debug_room(target->vm);
        if (room && debug.nbreaks + debug.nwatches > room) {
            gdb_points_remove(target->points, (GdbPointKind)kind, gva, size);
            g_string_append_printf(reply, "E.the mode %s has room for %u break- and watchpoints", vm_mode_name(target->vm), room);
            return;
        }
    }
    g_string_append(reply, "OK");
}

/* --- running --- */

/* @steps: one bit a vCPU; @runs the same: all others are frozen. */
static GdbAction resume(GdbTarget *target, uint64_t steps, uint64_t runs, GString *reply)
{
    CpuDebug debug = gdb_points_debug(target->points);
    for (unsigned i = 0; i < target->ncpus; i++) {
        g_autoptr(GError) error = NULL;
        debug.steps = steps >> i & 1;
        bool is_needed = debug.steps || debug.nbreaks || debug.nwatches;
        if (!vm_debug(target->vm, i, is_needed ? &debug : NULL, !(runs >> i & 1), &error)) {
            error_reply(reply, error->message);
            return GDB_ACTION_NONE;
        }
    }
    return GDB_ACTION_RESUME;
}

static uint64_t all_cpus(const GdbTarget *target) { return target->ncpus >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << target->ncpus) - 1; }

/* "c", "s", "Csig", "Ssig", with an address to go on at. */
static GdbAction run_command(GdbTarget *target, const char *body, GString *reply)
{
    const char *text = body + 1;
    uint64_t number;
    if (*body == 'C' || *body == 'S') {
        if (!gdb_number(&text, &number) || (*text && *text++ != ';')) {
            error_reply(reply, "malformed signal");
            return GDB_ACTION_NONE;
        }
    }
    if (*text) {
        if (!gdb_number(&text, &number) || *text) {
            error_reply(reply, "malformed address");
            return GDB_ACTION_NONE;
        }
        vm_cpu_state(target->vm, target->resumed, target->state);
        target->state->rip = number;
        vm_cpu_load(target->vm, target->resumed, target->state);
    }
    uint64_t steps = g_ascii_tolower(*body) == 's' ? (uint64_t)1 << target->resumed : 0;
    return resume(target, steps, all_cpus(target), reply);
}

/* "vCont;s:1;c": the first action that names a thread is its. */
static GdbAction cont_command(GdbTarget *target, const char *text, GString *reply)
{
    uint64_t named = 0, steps = 0, runs = 0;
    while (*text == ';') {
        char action = *++text;
        uint64_t which = all_cpus(target) & ~named, number;
        if (!strchr("cCsS", action) || !action)
            break;
        text++;
        if ((action == 'C' || action == 'S') && !gdb_number(&text, &number))
            break;
        if (*text == ':') {
            unsigned index;
            text++;
            if (g_str_has_prefix(text, "-1"))
                text += 2;
            else if (thread_parse(target, &text, &index))
                which &= (uint64_t)1 << index;
            else
                break;
        }
        named |= which;
        runs |= which;
        if (g_ascii_tolower(action) == 's')
            steps |= which;
    }
    if (*text || !runs) {
        error_reply(reply, "malformed vCont");
        return GDB_ACTION_NONE;
    }
    return resume(target, steps, runs, reply);
}

/* --- queries --- */

/* "features:read:target.xml:offset,size" */
static void features_read(const GdbTarget *target, const char *text, GString *reply)
{
    uint64_t offset, size, length = strlen(target->xml);
    if (!g_str_has_prefix(text, "target.xml:")) {
        g_string_append(reply, "E00");
        return;
    }
    text += strlen("target.xml:");
    if (!range_parse(&text, &offset, &size) || *text || offset > length) {
        error_reply(reply, "malformed range");
        return;
    }
    size = MIN(MIN(size, length - offset), READ_MAX);
    g_string_append_c(reply, offset + size < length ? 'm' : 'l');
    g_string_append_len(reply, target->xml + offset, (gssize)size);
}

/* A command for the human monitor, in hexadecimal. */
static void monitor_command(GdbTarget *target, const char *digits, GString *reply)
{
    size_t size = strlen(digits) / 2;
    g_autofree char *line = g_malloc0(size + 1);
    if (!gdb_hex_bytes(digits, line, size) || !g_utf8_validate(line, -1, NULL)) {
        error_reply(reply, "malformed command");
        return;
    }
    g_autofree char *text = hmp_execute(target->vm, line);
    if (*text)
        gdb_hex_append(reply, text, MIN(strlen(text), READ_MAX));
    else
        g_string_append(reply, "OK");
}

static void query(GdbTarget *target, const char *body, GString *reply)
{
    const char *text = body + 1;
    if (g_str_has_prefix(text, "Supported")) {
        target->has_swbreak = strstr(text, "swbreak+") != NULL;
        g_string_append_printf(reply, "PacketSize=%x;qXfer:features:read+;vContSupported+;QStartNoAckMode+;swbreak+;hwbreak+", GDB_PACKET_MAX);
    } else if (g_str_has_prefix(text, "Xfer:features:read:")) {
        features_read(target, text + strlen("Xfer:features:read:"), reply);
    } else if (!strcmp(text, "fThreadInfo")) {
        thread_list(target, reply);
    } else if (!strcmp(text, "sThreadInfo")) {
        g_string_append(reply, "l");
    } else if (g_str_has_prefix(text, "ThreadExtraInfo,")) {
        thread_describe(target, text + strlen("ThreadExtraInfo,"), reply);
    } else if (!strcmp(text, "C")) {
        g_string_append_printf(reply, "QC%x", target->current + 1);
    } else if (g_str_has_prefix(text, "Attached")) {
        g_string_append(reply, "1");
    } else if (g_str_has_prefix(text, "Rcmd,")) {
        monitor_command(target, text + strlen("Rcmd,"), reply);
    } else if (!strcmp(text, "qemu.PhyMemMode")) {
        g_string_append(reply, target->is_physical ? "1" : "0");
    }
}

static void setting(GdbTarget *target, const char *body, GString *reply)
{
    if (!strcmp(body, "QStartNoAckMode"))
        target->wants_acks = false;
    else if (g_str_has_prefix(body, "Qqemu.PhyMemMode:"))
        target->is_physical = body[strlen("Qqemu.PhyMemMode:")] == '1';
    else
        return;
    g_string_append(reply, "OK");
}

static GdbAction long_command(GdbTarget *target, const char *body, GString *reply)
{
    if (!strcmp(body, "vCont?")) {
        g_string_append(reply, "vCont;c;C;s;S");
    } else if (g_str_has_prefix(body, "vCont")) {
        return cont_command(target, body + strlen("vCont"), reply);
    } else if (g_str_has_prefix(body, "vKill")) {
        g_string_append(reply, "OK");
        return GDB_ACTION_KILL;
    }
    return GDB_ACTION_NONE;
}

static void thread_check(const GdbTarget *target, const char *text, GString *reply)
{
    unsigned index;
    if (thread_parse(target, &text, &index) && !*text)
        g_string_append(reply, "OK");
    else
        error_reply(reply, "there is no such thread");
}

GdbAction gdb_target_command(GdbTarget *target, const char *body, size_t count, GString *reply)
{
    switch (*body) {
    case '?':
        gdb_target_stopped(target, target->current, NULL, SIGNAL_TRAP, reply);
        break;
    case 'g':
        registers_read(target, reply);
        break;
    case 'G':
        registers_write(target, body + 1, reply);
        break;
    case 'p':
        register_read(target, body + 1, reply);
        break;
    case 'P':
        register_write(target, body + 1, reply);
        break;
    case 'm':
        memory_read(target, body + 1, reply);
        break;
    case 'M':
    case 'X':
        memory_command(target, body, count, reply);
        break;
    case 'Z':
    case 'z':
        point_command(target, body, reply);
        break;
    case 'H':
        thread_select(target, body + 1, reply);
        break;
    case 'T':
        thread_check(target, body + 1, reply);
        break;
    case 'q':
        query(target, body, reply);
        break;
    case 'Q':
        setting(target, body, reply);
        break;
    case 'v':
        return long_command(target, body, reply);
    case 'c':
    case 's':
    case 'C':
    case 'S':
        return run_command(target, body, reply);
    case 'D':
        g_string_append(reply, "OK");
        return GDB_ACTION_DETACH;
    case 'k':
        return GDB_ACTION_KILL;
    default:
        break; /* not supported */
    }
    return GDB_ACTION_NONE;
}
