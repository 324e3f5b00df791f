/*
 * Config: everything the user asked for, as plain data.  Front ends (args.c) fill it, check.c holds all rules across fields, vm/ reads
 * it.  No field refers to another: "chardev:ID" is resolved by check.c.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/dialect.h"
#include "config/opts.h"

#define CONFIG_MAX_SERIAL 4
#define CONFIG_DEFAULT_RAM_BYTES (UINT64_C(128) << 20)
#define CONFIG_MAX_RAM_BYTES (UINT64_C(1) << 40)
#define CONFIG_MAX_CPUS 16

/* What to do with the filled struct. */
typedef enum ConfigAction {
    CONFIG_RUN,  /* start the guest */
    CONFIG_TEXT, /* print @text on stdout and end with status 0 */
} ConfigAction;

typedef enum ConfigMachine {
    CONFIG_MACHINE_PC, /* q35 and microvm are accepted names of the same board for now */
} ConfigMachine;

typedef enum ConfigAccel {
    CONFIG_ACCEL_BT,
    CONFIG_ACCEL_HV,
    CONFIG_ACCEL_HWMMU,
    CONFIG_ACCEL_KVM,  /* hv or hwmmu, whichever the host has */
    CONFIG_ACCEL_AUTO, /* the best there is */
} ConfigAccel;

/* What a guest in bt does when it enters long mode. */
typedef enum ConfigLongMode { CONFIG_LONG_STAY, CONFIG_LONG_JUMP, CONFIG_LONG_STOP } ConfigLongMode;

/* Where the local APICs of a guest in KVM are. */
typedef enum ConfigIrqchip {
    CONFIG_IRQCHIP_AUTO,  /* in the kernel, where it offers that */
    CONFIG_IRQCHIP_OFF,   /* here */
    CONFIG_IRQCHIP_SPLIT, /* in the kernel */
} ConfigIrqchip;

/* What is done when the guest's kernel reports its own panic. */
typedef enum PanicAction { PANIC_SHUTDOWN, PANIC_PAUSE, PANIC_NONE } PanicAction;

/* What is done when the guest's watchdog expires. */
typedef enum WatchdogAction {
    WATCHDOG_RESET,
    WATCHDOG_SHUTDOWN, /* the power button */
    WATCHDOG_POWEROFF,
    WATCHDOG_PAUSE,
    WATCHDOG_INJECT_NMI,
    WATCHDOG_DEBUG, /* only told */
    WATCHDOG_NONE,
    WATCHDOG_NACTIONS,
} WatchdogAction;

typedef enum CharKind {
    CHAR_NONE, /* nothing is connected and the device is not built */
    CHAR_NULL,
    CHAR_STDIO,
    CHAR_FILE,
    CHAR_PIPE,
    CHAR_UNIX,
    CHAR_TCP,
    CHAR_PTY,
} CharKind;

/* One character back end. */
typedef struct CharConfig {
    char *id;     /* NULL for an anonymous one */
    CharKind kind;
    char *path;   /* FILE, PIPE, UNIX */
    char *host;   /* TCP; NULL: any address */
    char *port;   /* TCP: number or service name */
    bool server;  /* UNIX, TCP: listen instead of connecting */
    bool wait;    /* server: do not start the guest before somebody has connected */
    bool append;  /* FILE: keep what is there */
    bool mux;     /* several front ends share it, Ctrl-A c switches */
    bool signal;  /* STDIO: Ctrl-C ends the monitor instead of reaching the guest */
} CharConfig;

/* One -device, -drive, -netdev, … with its properties still in text form; its consumer takes them. */
typedef struct ConfigItem {
    char *option; /* "-device" */
    char *driver; /* first word */
    char *id;     /* NULL when not given */
    Opts *props;
} ConfigItem;

/* One -drive. */
typedef struct DriveConfig {
    char *id;     /* NULL when not given */
    char *path;
    char *format; /* as qemu-nbd names it; NULL: raw */
    char *serial; /* NULL: none */
    bool is_virtio;    /* if=virtio: a disk of its own; otherwise a -device names it */
    bool is_read_only, is_snapshot;
    bool is_used;      /* by a -device */
} DriveConfig;

/* One virtio function, in the order of the command line; filled by check.c. */
typedef enum VirtioKind { VIRTIO_KIND_BLK, VIRTIO_KIND_RNG, VIRTIO_KIND_CONSOLE, VIRTIO_KIND_NET } VirtioKind;
typedef struct VirtioConfig {
    VirtioKind kind;
    unsigned drive;      /* BLK: index into drives */
    unsigned nic;        /* NET: index into nics */
    CharConfig *chardev; /* CONSOLE */
} VirtioConfig;

/* -netdev user: a private network behind this process. */
typedef struct NetdevForward {
    bool is_udp;
    uint32_t host, guest; /* IPv4 addresses as numbers; 0: any of the host's, the guest's first by DHCP */
    uint16_t host_port, guest_port;
} NetdevForward;

typedef struct NetdevConfig {
    char *id;                               /* config_check() gives one to those without */
    bool is_restricted;                     /* nothing but forwarded ports leads out */
    uint32_t net, mask, host, dhcp, dns;    /* IPv4 addresses as numbers */
    char *hostname, *domain, *tftp, *bootfile; /* or NULL */
    GPtrArray *searches;                    /* char *: domains that DHCP tells the guest to search */
    GPtrArray *forwards;                    /* of NetdevForward */
} NetdevConfig;

/* A network card. */
typedef struct NicConfig {
    char *id;   /* config_check() gives one to those without */
    int netdev; /* index into netdevs, or NIC_* */
    bool has_mac;
    uint8_t mac[6];
} NicConfig;
#define NIC_NO_CABLE (-1)
#define NIC_ON_HUB   (-2) /* until config_check() */

/* -sandbox */
typedef struct SandboxConfig {
    bool is_off;
    bool is_required; /* "on" was written */
    bool spawn, resources; /* allowed */
    enum { SANDBOX_FILES_AUTO, SANDBOX_FILES_ALLOW, SANDBOX_FILES_DENY } files; /* AUTO: when a monitor or a mode may need them */
} SandboxConfig;

typedef struct ConfigCpuFeature {
    char *name;
    bool on;
} ConfigCpuFeature;

typedef struct Config {
    ConfigAction action;
    char *text;

    char *name;
    ConfigMachine machine;
    char *machine_name;   /* as the user wrote it */
    GArray *accels;       /* ConfigAccel, in order of preference; never empty after args */
    bool accel_is_list;   /* the user gave alternatives: falling back is allowed */
    ConfigAccel accel;    /* chosen by check.c */
    ConfigIrqchip irqchip;
    uint64_t ram_bytes;
    unsigned ncpus;
    unsigned nsockets, ncores, nthreads; /* of each socket, of each core; their product is ncpus */
    char *cpu_name;       /* "base", … */
    char *cpu_vendor;     /* 12 characters, or NULL: the model's own */
    uint32_t cpu_signature; /* family, model and stepping as CPUID leaf 1 has them; 0: the model's own */
    GPtrArray *cpu_features; /* ConfigCpuFeature */
    bool has_acpi, has_hpet, has_pit, has_i8042;

    char *kernel, *initrd, *append; /* NULL when not given */
    char *bios;

    bool no_defaults, no_graphic, no_display;
    bool no_reboot, no_shutdown, start_stopped;
    PanicAction panic_action;
    WatchdogAction watchdog_action;

    GPtrArray *chardevs; /* CharConfig, by -chardev */
    unsigned nserials;
    CharConfig *serial[CONFIG_MAX_SERIAL]; /* NULL: not given; after check: what UART n is connected to */
    char *serial_chardev[CONFIG_MAX_SERIAL]; /* "chardev:ID" not resolved yet */
    bool serial_mon[CONFIG_MAX_SERIAL]; /* "mon:": the human monitor shares this line */
    bool has_monitor_option;
    CharConfig *monitor;  /* the human one on the terminal; NULL: none of its own */
    GPtrArray *monitors;         /* CharConfig: where else the human monitor is; complete after check */
    GPtrArray *monitor_chardevs; /* char *: "chardev:ID", not resolved yet */

    GPtrArray *devices; /* ConfigItem */
    GPtrArray *drives;  /* DriveConfig */
    GPtrArray *virtio;  /* VirtioConfig */
    bool all_snapshot;  /* -snapshot */
    bool has_debug_exit, has_pc_testdev, has_pci_testdev, has_pvpanic, has_pvpanic_pci, has_watchdog;
    uint16_t pvpanic_port;
    uint16_t debug_exit_port, debug_exit_size;
    CharConfig *debugcon; /* NULL: no port e9 */
    char *debugcon_chardev;
    uint16_t debugcon_port;

    CharConfig *gdb;             /* where debuggers come to, NULL: nowhere */
    char *gdb_chardev;           /* "-gdb chardev:ID", not resolved yet */
    GPtrArray *controls;         /* CharConfig: where QMP is spoken; complete after check */
    GPtrArray *control_chardevs; /* char *: "-mon chardev=ID,mode=control", not resolved yet */

    /* From a .vmx file. */
    ModeConfig modes;
    char *guest_os, *plan_host; /* NULL when not given */
    bool is_vmi;
    bool is_fallback;   /* the mode is not the one that was asked for */
    char *fallback_text; /* what was asked for and what is missing, or NULL */
    bool may_fall_back; /* a hardware mode that fails while the guest runs may be replaced by bt */
    ConfigLongMode long_mode_action;
    ConfigAccel long_mode_target; /* JUMP: HV, HWMMU, or KVM for whichever the host has */
    char *long_mode_text; /* what a user should know about it, or NULL */
    bool one_insn;      /* bt translates one instruction at a time */
    GPtrArray *notices; /* char *: what the user should know, each with file:line */

    GPtrArray *netdevs; /* of NetdevConfig */
    GPtrArray *nics;    /* of NicConfig */
    bool has_hub;       /* -net user: index hub of netdevs */
    unsigned hub;

    SandboxConfig sandbox;
    char *snapshot_dir, *loadvm; /* where snapshots are; the one to start from; NULL: not given */
    char *incoming;              /* a migration's URI, or "defer"; NULL: not given */

    char *pidfile;
    bool rtc_local; /* -rtc base=localtime */
    int64_t rtc_base; /* seconds since 1970, or -1: the host's time */

    uint32_t log_mask; /* LOG_* of core/log.h */
    char *log_path;    /* NULL: stderr */
    char *symbols_path; /* of the guest's kernel, for -d prof, or NULL */
    GPtrArray *ignored; /* char *: harmless options that were accepted, for -d opts */
} Config;

Config *config_new(void); /* every default set */
void config_free(Config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)

CharConfig *char_config_new(CharKind kind);
CharConfig *char_config_copy(const CharConfig *from);
void char_config_free(CharConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CharConfig, char_config_free)
void config_item_free(ConfigItem *item);
void drive_config_free(DriveConfig *drive);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DriveConfig, drive_config_free)

/* drive_config_parse: the value of -drive.  NULL with VMM_ERROR_USAGE. */
/* drive_format_of: what the end of @path says: "disk.qcow2" is "qcow2"; NULL: raw. */
const char *drive_format_of(const char *path);
DriveConfig *drive_config_parse(const char *text, GError **error);

/**
 * args_parse: QEMU-style options.
 * @argv: without the program's name; @argc entries
 *
 * Fills @config.  Says nothing about rules across options: call config_check() next.
 * Returns: FALSE with VMM_ERROR_USAGE; the message names the option and what it may be.
 */
gboolean args_parse(Config *config, int argc, const char *const *argv, GError **error);

/* Single options with a language of their own, as args_parse() calls them. */
gboolean accel_args_parse(Config *config, const char *value, GError **error);
gboolean machine_args_parse(Config *config, const char *value, GError **error);
gboolean cpu_args_parse(Config *config, const char *value, GError **error);
gboolean action_args_parse(Config *config, const char *value, GError **error);   /* -action */
gboolean watchdog_args_parse(Config *config, const char *value, GError **error); /* -watchdog-action */
const char *config_watchdog_name(WatchdogAction action); /* as QEMU's users write it */
const char *cpu_model_name(unsigned index); /* from 0; NULL behind the last one */

/* args_help: the text of -help.   args_version: first line as QEMU's, so that scripts find "QEMU emulator version M.m.u". */
char *args_help(void);
char *args_version(void);

/* char_config_parse: "stdio", "file:PATH", "unix:PATH,server=on,wait=off", "tcp:HOST:PORT,server" and so on; @option is for the message.
 * "none" gives CHAR_NONE.  "mon:" and "chardev:" are the caller's. */
CharConfig *char_config_parse(const char *option, const char *text, GError **error);
/* config_gdb_parse: the value of -gdb: a back end that debuggers come to, sockets without wait.  NULL with VMM_ERROR_USAGE. */
CharConfig *config_gdb_parse(const char *option, const char *text, GError **error);
/* char_config_from_chardev: the value of -chardev. */
CharConfig *char_config_from_chardev(const char *text, GError **error);

/**
 * config_check: fills in what depends on other options and applies every rule across fields.
 * Returns: FALSE with VMM_ERROR_USAGE, or VMM_ERROR_NO_MODE when no execution mode that was asked for exists.
 */
gboolean config_check(Config *config, GError **error);

/* The values of -netdev, -nic and -net, and the properties of -device virtio-net-pci: add to netdevs and nics.  FALSE with VMM_ERROR_USAGE. */
gboolean netdev_args_parse(Config *config, const char *value, GError **error);
gboolean nic_args_parse(Config *config, const char *value, GError **error);
gboolean net_args_parse(Config *config, const char *value, GError **error);
gboolean net_device_add(Config *config, const char *driver, const char *id_of_card, Opts *props, GError **error);
gboolean net_mac_parse(const char *text, uint8_t *out_mac, GError **error); /* 6 bytes */
gboolean config_check_net(Config *config, GError **error); /* part of config_check() */
/* netdev_forward_parse: "tcp::2222-:22".  netdev_forward_of_host: its first half, "tcp::2222".  FALSE with VMM_ERROR_USAGE. */
gboolean netdev_forward_parse(const char *text, NetdevForward *out_forward, GError **error);
gboolean netdev_forward_of_host(const char *text, NetdevForward *out_forward, GError **error);
NetdevConfig *netdev_config_new(void);
void netdev_config_free(NetdevConfig *netdev);
void nic_config_free(NicConfig *nic);

/* config_device_help: the text of -device help. */
char *config_device_help(void);
