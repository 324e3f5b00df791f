#include "monitor/hmp-net.h"

#include <string.h>

static void card_append(void *opaque, const NicConfig *nic, bool is_up, const NetdevConfig *network, Netdev *netdev)
{
    GString *out = opaque;
    g_string_append_printf(out, "%s: model=virtio-net-pci,macaddr=%02x:%02x:%02x:%02x:%02x:%02x, link %s\n", nic->id, nic->mac[0], nic->mac[1],
                           nic->mac[2], nic->mac[3], nic->mac[4], nic->mac[5], is_up ? "up" : "down");
    if (network)
        g_string_append_printf(out, " \\ %s: type=user,net=%u.%u.%u.%u,restrict=%s\n", network->id, network->net >> 24,
                               network->net >> 16 & 255, network->net >> 8 & 255, network->net & 255, network->is_restricted ? "on" : "off");
}

void hmp_info_network(Vm *vm, GString *out) { pci_devices_each_card(vm_devices(vm), card_append, out); }

static void connections_append(void *opaque, const NicConfig *nic, bool is_up, const NetdevConfig *network, Netdev *netdev)
{
    if (!netdev)
        return;
    g_autofree char *text = netdev_connections(netdev);
    g_string_append_printf(opaque, "%s:\n%s", network->id, text);
}

void hmp_info_usernet(Vm *vm, GString *out) { pci_devices_each_card(vm_devices(vm), connections_append, out); }

/* "[NETWORK] REST": the network, or NULL with a sentence in @out. */
static Netdev *network_take(Vm *vm, const char *command, char **words, const char **out_rest, GString *out)
{
    bool has_name = words[0] && words[1];
    Netdev *netdev = pci_devices_network(vm_devices(vm), has_name ? words[0] : NULL);
    *out_rest = has_name ? words[1] : words[0] ? words[0] : "";
    if (!netdev)
        g_string_append_printf(out, "%s: there is no network%s%s\n", command, has_name ? " of the name " : "", has_name ? words[0] : "");
    return netdev;
}

void hmp_hostfwd_add(Vm *vm, const char *args, GString *out)
{
    g_auto(GStrv) words = g_strsplit(args, " ", 2);
    g_autoptr(GError) error = NULL;
    const char *rest;
    NetdevForward forward;
    Netdev *netdev = network_take(vm, "hostfwd_add", words, &rest, out);
    if (netdev && (!netdev_forward_parse(rest, &forward, &error) || !netdev_forward_add(netdev, &forward, &error)))
        g_string_append_printf(out, "hostfwd_add: %s\n", error->message);
}

void hmp_hostfwd_remove(Vm *vm, const char *args, GString *out)
{
    g_auto(GStrv) words = g_strsplit(args, " ", 2);
    g_autoptr(GError) error = NULL;
    const char *rest;
    NetdevForward forward;
    Netdev *netdev = network_take(vm, "hostfwd_remove", words, &rest, out);
    if (!netdev)
        return;
    if (!netdev_forward_of_host(rest, &forward, &error))
        g_string_append_printf(out, "hostfwd_remove: %s\n", error->message);
    else
        g_string_append_printf(out, "host forwarding rule for %s %s\n", rest, netdev_forward_remove(netdev, &forward) ? "removed" : "not found");
}

void hmp_set_link(Vm *vm, const char *args, GString *out)
{
    g_auto(GStrv) words = g_strsplit(args, " ", 2);
    bool is_up;
    if (g_strv_length(words) != 2 || !parse_bool(words[1], &is_up))
        g_string_append(out, "set_link: must be set_link NAME on|off\n");
    else if (!pci_devices_set_link(vm_devices(vm), words[0], is_up))
        g_string_append_printf(out, "set_link: there is no card or network '%s'; info network lists them\n", words[0]);
}
