#include "config/config.h"

static void feature_free(gpointer data)
{
    ConfigCpuFeature *feature = data;
    g_free(feature->name);
    g_free(feature);
}

CharConfig *char_config_new(CharKind kind)
{
    CharConfig *config = g_new0(CharConfig, 1);
    config->kind = kind;
    return config;
}

CharConfig *char_config_copy(const CharConfig *from)
{
    CharConfig *copy = g_new(CharConfig, 1);
    *copy = *from;
    copy->id = g_strdup(from->id);
    copy->path = g_strdup(from->path);
    copy->host = g_strdup(from->host);
    copy->port = g_strdup(from->port);
    return copy;
}

void char_config_free(CharConfig *config)
{
    if (!config)
        return;
    g_free(config->id);
    g_free(config->path);
    g_free(config->host);
    g_free(config->port);
    g_free(config);
}

void config_item_free(ConfigItem *item)
{
    if (!item)
        return;
    g_free(item->option);
    g_free(item->driver);
    g_free(item->id);
    opts_free(item->props);
    g_free(item);
}

void drive_config_free(DriveConfig *drive)
{
    if (!drive)
        return;
    g_free(drive->id);
    g_free(drive->path);
    g_free(drive->format);
    g_free(drive->serial);
    g_free(drive);
}

static void virtio_config_free(gpointer data)
{
    VirtioConfig *virtio = data;
    char_config_free(virtio->chardev);
    g_free(virtio);
}

Config *config_new(void)
{
    Config *config = g_new0(Config, 1);
    config->accels = g_array_new(FALSE, FALSE, sizeof(ConfigAccel));
    config->ram_bytes = CONFIG_DEFAULT_RAM_BYTES;
    config->ncpus = config->nsockets = config->ncores = config->nthreads = 1;
    config->cpu_name = g_strdup("base");
    config->machine_name = g_strdup("pc");
    config->cpu_features = g_ptr_array_new_with_free_func(feature_free);
    config->has_acpi = config->has_hpet = config->has_pit = config->has_i8042 = true;
    config->chardevs = g_ptr_array_new_with_free_func((GDestroyNotify)char_config_free);
    config->devices = g_ptr_array_new_with_free_func((GDestroyNotify)config_item_free);
    config->drives = g_ptr_array_new_with_free_func((GDestroyNotify)drive_config_free);
    config->virtio = g_ptr_array_new_with_free_func(virtio_config_free);
    config->netdevs = g_ptr_array_new_with_free_func((GDestroyNotify)netdev_config_free);
    config->nics = g_ptr_array_new_with_free_func((GDestroyNotify)nic_config_free);
    config->ignored = g_ptr_array_new_with_free_func(g_free);
    config->rtc_base = -1;
    config->controls = g_ptr_array_new_with_free_func((GDestroyNotify)char_config_free);
    config->monitors = g_ptr_array_new_with_free_func((GDestroyNotify)char_config_free);
    config->monitor_chardevs = g_ptr_array_new_with_free_func(g_free);
    config->control_chardevs = g_ptr_array_new_with_free_func(g_free);
    config->notices = g_ptr_array_new_with_free_func(g_free);
    mode_config_init(&config->modes);
    return config;
}

void config_free(Config *config)
{
    if (!config)
        return;
    g_free(config->text);
    g_free(config->name);
    g_free(config->machine_name);
    g_array_free(config->accels, TRUE);
    g_free(config->cpu_name);
    g_ptr_array_free(config->cpu_features, TRUE);
    g_free(config->cpu_vendor);
    g_free(config->kernel);
    g_free(config->initrd);
    g_free(config->append);
    g_free(config->bios);
    g_ptr_array_free(config->chardevs, TRUE);
    for (unsigned i = 0; i < CONFIG_MAX_SERIAL; i++) {
        char_config_free(config->serial[i]);
        g_free(config->serial_chardev[i]);
    }
    char_config_free(config->monitor);
    g_ptr_array_free(config->monitors, TRUE);
    g_ptr_array_free(config->monitor_chardevs, TRUE);
    g_ptr_array_free(config->devices, TRUE);
    g_ptr_array_free(config->drives, TRUE);
    g_ptr_array_free(config->virtio, TRUE);
    g_ptr_array_free(config->netdevs, TRUE);
    g_ptr_array_free(config->nics, TRUE);
    char_config_free(config->debugcon);
    g_free(config->debugcon_chardev);
    g_ptr_array_free(config->controls, TRUE);
    char_config_free(config->gdb);
    g_free(config->gdb_chardev);
    g_ptr_array_free(config->control_chardevs, TRUE);
    g_ptr_array_free(config->notices, TRUE);
    g_free(config->guest_os);
    g_free(config->plan_host);
    g_free(config->fallback_text);
    g_free(config->long_mode_text);
    g_free(config->pidfile);
    g_free(config->snapshot_dir);
    g_free(config->loadvm);
    g_free(config->incoming);
    g_free(config->log_path);
    g_free(config->symbols_path);
    g_ptr_array_free(config->ignored, TRUE);
    g_free(config);
}
