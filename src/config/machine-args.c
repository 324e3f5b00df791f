/* -accel and -machine. */
#include <string.h>

#include "config/config.h"
#include "config/usage.h"

/* "-accel" appends to the list; "-machine accel=a:b" gives a whole one. */
static gboolean accel_append(Config *config, const char *option, const char *list, GError **error)
{
    static const struct {
        const char *name;
        ConfigAccel accel;
    } names[] = { { "bt", CONFIG_ACCEL_BT },   { "tcg", CONFIG_ACCEL_BT },       { "auto", CONFIG_ACCEL_AUTO },
                  { "kvm", CONFIG_ACCEL_KVM }, { "hv", CONFIG_ACCEL_HV }, { "hwmmu", CONFIG_ACCEL_HWMMU } };
    g_auto(GStrv) words = g_strsplit(list, ":", -1);
    for (char **word = words; *word; word++) {
        bool found = false;
        for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
            if (!strcmp(*word, names[i].name)) {
                g_array_append_val(config->accels, names[i].accel);
                found = true;
            }
        if (!found)
            return usage(error, "%s %s: unknown mode '%s'; known: bt (or tcg), hv, hwmmu, kvm, auto", option, list, *word);
    }
    return TRUE;
}

/* "kernel-irqchip", of -machine and of -accel. */
static gboolean irqchip_take(Config *config, Opts *opts, const char *option, GError **error)
{
    const char *value = opts_take(opts, "kernel-irqchip");
    if (!value)
        value = opts_take(opts, "kernel_irqchip");
    if (!value)
        return TRUE;
    if (!strcmp(value, "on"))
        g_ptr_array_add(config->ignored, g_strdup_printf("%s kernel-irqchip=on: 8259, I/O APIC and 8254 are always Segue's own, so that the "
                                                         "guest can leave KVM; taken as split", option));
    else if (strcmp(value, "off") != 0 && strcmp(value, "split") != 0)
        return usage(error, "%s kernel-irqchip=%s: write split (local APICs in the kernel) or off", option, value);
    config->irqchip = strcmp(value, "off") ? CONFIG_IRQCHIP_SPLIT : CONFIG_IRQCHIP_OFF;
    return TRUE;
}

gboolean accel_args_parse(Config *config, const char *value, GError **error)
{
    if (!strcmp(value, "help") || !strcmp(value, "?")) {
        config->action = CONFIG_TEXT;
        text_replace(&config->text, "Accelerators supported in this version:\nbt (tcg is a synonym)\nkvm (where the host has /dev/kvm)\n"
                "hwmmu (kvm with ept or npt on)\nhv (kvm with ept or npt off)\n");
        return TRUE;
    }
    g_autoptr(Opts) opts = opts_parse("-accel", value, "accel", error);
    if (!opts)
        return FALSE;
    const char *list = opts_take(opts, "accel");
    if (!list)
        return usage(error, "-accel %s: the mode is missing", value);
    static const char *const harmless[] = { "thread", "tb-size", "split-wx", "dirty-ring-size" };
    for (size_t i = 0; i < G_N_ELEMENTS(harmless); i++)
        opts_take(opts, harmless[i]);
    return opts_take_bool(opts, "one-insn-per-tb", &config->one_insn, error) && irqchip_take(config, opts, "-accel", error) &&
           opts_done(opts, "accel thread tb-size one-insn-per-tb kernel-irqchip", error) && accel_append(config, "-accel", list, error);
}

gboolean machine_args_parse(Config *config, const char *value, GError **error)
{
    if (!strcmp(value, "help") || !strcmp(value, "?")) {
        config->action = CONFIG_TEXT;
        text_replace(&config->text, "Supported machines are:\npc       PC with PIIX chip set (default)\n"
                               "q35      accepted, same board as pc in this version\n"
                               "microvm  accepted, same board as pc in this version\n");
        return TRUE;
    }
    g_autoptr(Opts) opts = opts_parse("-machine", value, "type", error);
    if (!opts)
        return FALSE;
    const char *type = opts_take(opts, "type");
    if (type) {
        if (strcmp(type, "pc") != 0 && strcmp(type, "q35") != 0 && strcmp(type, "microvm") != 0 &&
            !g_str_has_prefix(type, "pc-i440fx-") && !g_str_has_prefix(type, "pc-q35-"))
            return usage(error, "-machine %s: unknown machine; known: pc, q35, microvm", type);
        text_replace(&config->machine_name, type);
    }
    const char *accel = opts_take(opts, "accel");
    if (accel) {
        g_array_set_size(config->accels, 0);
        if (!accel_append(config, "-machine accel", accel, error))
            return FALSE;
    }
    static const char *const harmless[] = { "usb", "smm", "vmport", "dump-guest-core", "mem-merge", "graphics",
                                            "sata", "smbus", "suppress-vmdesc", "nvdimm", "hmat", "memory-backend",
                                            "pcspk-audiodev", "max-ram-below-4g", "rtc", "isa-serial", "x-option-roms",
                                            "auto-kernel-cmdline", "acpi-slots", "pic", "pcie", "ioapic2", "default-bus-bypass-iommu" };
    for (size_t i = 0; i < G_N_ELEMENTS(harmless); i++) {
        const char *given = opts_take(opts, harmless[i]);
        if (given)
            g_ptr_array_add(config->ignored, g_strdup_printf("-machine %s=%s", harmless[i], given));
    }
    bool is_adaptive = config->modes.adaptive;
    if (!opts_take_bool(opts, "adaptive", &is_adaptive, error))
        return FALSE;
    config->modes.adaptive = is_adaptive;
    return irqchip_take(config, opts, "-machine", error) && opts_take_bool(opts, "acpi", &config->has_acpi, error) &&
           opts_take_bool(opts, "hpet", &config->has_hpet, error) &&
           opts_take_bool(opts, "pit", &config->has_pit, error) && opts_take_bool(opts, "i8042", &config->has_i8042, error) &&
           opts_done(opts, "type accel adaptive kernel-irqchip acpi hpet pit i8042", error);
}
