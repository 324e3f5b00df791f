/* -netdev, -nic, -net: networks and the cards on them. */
#include <arpa/inet.h>
#include <string.h>

#include "config/config.h"
#include "config/usage.h"

#define DEFAULT_NET  0x0a000200u /* 10.0.2.0/24 */
#define DEFAULT_MASK 0xffffff00u
#define HOST_NUMBER  2u
#define DNS_NUMBER   3u
#define DHCP_NUMBER  15u /* the first of those that DHCP gives */

NetdevConfig *netdev_config_new(void)
{
    NetdevConfig *netdev = g_new0(NetdevConfig, 1);
    netdev->net = DEFAULT_NET;
    netdev->mask = DEFAULT_MASK;
    netdev->searches = g_ptr_array_new_with_free_func(g_free);
    netdev->forwards = g_ptr_array_new_with_free_func(g_free);
    return netdev;
}

void netdev_config_free(NetdevConfig *netdev)
{
    if (!netdev)
        return;
    g_free(netdev->id);
    g_free(netdev->hostname);
    g_free(netdev->domain);
    g_free(netdev->tftp);
    g_free(netdev->bootfile);
    g_ptr_array_free(netdev->searches, TRUE);
    g_ptr_array_free(netdev->forwards, TRUE);
    g_free(netdev);
}

void nic_config_free(NicConfig *nic)
{
    g_free(nic->id);
    g_free(nic);
}

static bool address_parse(const char *text, uint32_t *out_address)
{
    struct in_addr address;
    if (inet_pton(AF_INET, text, &address) != 1)
        return false;
    *out_address = ntohl(address.s_addr);
    return true;
}

/* --- forwarded ports --- */

/* "ADDRESS:PORT" or ":PORT" */
static bool endpoint_parse(const char *text, uint32_t *out_address, uint16_t *out_port)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || !parse_uint(colon + 1, 65535, &port))
        return false;
    g_autofree char *word = g_strndup(text, (gsize)(colon - text));
    *out_address = 0;
    *out_port = (uint16_t)port;
    return !*word || address_parse(word, out_address);
}

/* "tcp:127.0.0.1:2222": returns what is behind the protocol, or NULL. */
static const char *protocol_parse(const char *text, NetdevForward *out_forward)
{
    const char *rest = strchr(text, ':');
    g_autofree char *protocol = rest ? g_strndup(text, (gsize)(rest - text)) : NULL;
    if (!protocol || (*protocol && strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0))
        return NULL;
    out_forward->is_udp = !strcmp(protocol, "udp");
    return rest + 1;
}

gboolean netdev_forward_of_host(const char *text, NetdevForward *out_forward, GError **error)
{
    *out_forward = (NetdevForward){ 0 };
    const char *rest = protocol_parse(text, out_forward);
    return rest && endpoint_parse(rest, &out_forward->host, &out_forward->host_port)
               ? TRUE
               : usage(error, "'%s': must be tcp|udp:[HOST-ADDRESS]:PORT", text);
}

gboolean netdev_forward_parse(const char *text, NetdevForward *out_forward, GError **error)
{
    *out_forward = (NetdevForward){ 0 };
    const char *rest = protocol_parse(text, out_forward);
    g_auto(GStrv) ends = g_strsplit(rest ? rest : "", "-", 2);
    if (g_strv_length(ends) == 2 && endpoint_parse(ends[0], &out_forward->host, &out_forward->host_port) &&
        endpoint_parse(ends[1], &out_forward->guest, &out_forward->guest_port) && out_forward->guest_port)
        return TRUE;
    return usage(error, "hostfwd=%s: must be tcp|udp:[HOST-ADDRESS]:PORT-[GUEST-ADDRESS]:PORT, with IPv4 addresses", text);
}

static gboolean forward_add(NetdevConfig *netdev, const char *text, GError **error)
{
    NetdevForward forward;
    if (!netdev_forward_parse(text, &forward, error))
        return FALSE;
    g_ptr_array_add(netdev->forwards, g_memdup2(&forward, sizeof forward));
    return TRUE;
}

/* "52:54:00:12:34:56" */
gboolean net_mac_parse(const char *text, uint8_t *out_mac, GError **error)
{
    uint8_t mac[6];
    g_auto(GStrv) bytes = g_strsplit_set(text, ":-", -1);
    bool is_ok = g_strv_length(bytes) == 6;
    for (unsigned i = 0; i < 6 && is_ok; i++) {
        is_ok = strlen(bytes[i]) == 2 && g_ascii_isxdigit(bytes[i][0]) && g_ascii_isxdigit(bytes[i][1]);
        mac[i] = (uint8_t)g_ascii_strtoull(bytes[i], NULL, 16);
    }
    if (!is_ok || mac[0] & 1)
        return usage(error, "mac=%s: must be six hexadecimal bytes, the first one even, such as 52:54:00:12:34:56", text);
    memcpy(out_mac, mac, sizeof mac);
    return TRUE;
}

/* --- networks --- */

/* "192.168.7.0/24", "192.168.7.0" */
static gboolean net_parse(NetdevConfig *netdev, const char *text, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, "/", 2);
    uint64_t bits = 24;
    bool is_ok = address_parse(parts[0] ? parts[0] : "", &netdev->net) && netdev->net;
    if (is_ok && parts[1] && !parse_uint(parts[1], 27, &bits))
        is_ok = address_parse(parts[1], &netdev->mask) && netdev->mask && !(~netdev->mask & (~netdev->mask + 1)) &&
                ~netdev->mask >= 31;
    else
        netdev->mask = bits ? 0xffffffffu << (32 - bits) : 0;
    if (!is_ok || !netdev->mask)
        return usage(error, "net=%s: must be ADDRESS/BITS, with 27 bits at most, such as 10.0.2.0/24", text);
    netdev->net &= netdev->mask;
    return TRUE;
}

/* Addresses that were not given follow from the network's. */
static gboolean addresses_complete(NetdevConfig *netdev, GError **error)
{
    const struct {
        const char *name;
        uint32_t *address;
        unsigned number;
    } places[] = { { "host", &netdev->host, HOST_NUMBER }, { "dhcpstart", &netdev->dhcp, DHCP_NUMBER }, { "dns", &netdev->dns, DNS_NUMBER } };
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        if (!*places[i].address)
            *places[i].address = netdev->net | places[i].number;
        if ((*places[i].address & netdev->mask) != netdev->net)
            return usage(error, "%s=: the address is outside of net=", places[i].name);
    }
    return netdev->host != netdev->dns ? TRUE : usage(error, "host=, dns=: must be two addresses");
}

/* What all three options say of a network. */
static gboolean network_key(NetdevConfig *netdev, const char *key, const char *value, bool *out_known, GError **error)
{
    const struct {
        const char *name;
        char **text;
        uint32_t *address;
    } plain[] = {
        { "id", &netdev->id, NULL },           { "hostname", &netdev->hostname, NULL }, { "domainname", &netdev->domain, NULL },
        { "tftp", &netdev->tftp, NULL },       { "bootfile", &netdev->bootfile, NULL }, { "host", NULL, &netdev->host },
        { "dhcpstart", NULL, &netdev->dhcp },  { "dns", NULL, &netdev->dns },
    };
    *out_known = true;
    for (size_t i = 0; i < G_N_ELEMENTS(plain); i++) {
        if (strcmp(key, plain[i].name) != 0)
            continue;
        if (plain[i].address)
            return address_parse(value, plain[i].address) ? TRUE : usage(error, "%s=%s: must be an IPv4 address", key, value);
        text_replace(plain[i].text, value);
        return TRUE;
    }
    bool is_on;
    if (!strcmp(key, "hostfwd"))
        return forward_add(netdev, value, error);
    if (!strcmp(key, "net"))
        return net_parse(netdev, value, error);
    if (!strcmp(key, "restrict"))
        return parse_bool(value, &netdev->is_restricted) ? TRUE : usage(error, "restrict=%s: must be on or off", value);
    if (!strcmp(key, "ipv4") || !strcmp(key, "ipv6"))
        return parse_bool(value, &is_on) && is_on == (key[3] == '4') ? TRUE : usage(error, "%s=%s: only IPv4 is in this version", key, value);
    if (!strcmp(key, "dnssearch"))
        g_ptr_array_add(netdev->searches, g_strdup(value));
    else
        *out_known = false;
    return TRUE;
}

/* --- cards --- */

static void card_add(Config *config, const NicConfig *nic)
{
    g_ptr_array_add(config->nics, g_memdup2(nic, sizeof *nic));
}

/* The network the options describe is the last one of config->netdevs. */
static gboolean option_parse(Config *config, const char *option, Opts *opts, bool has_card, GError **error)
{
    NetdevConfig *netdev = netdev_config_new();
    g_ptr_array_add(config->netdevs, netdev);
    NicConfig nic = { .netdev = (int)config->netdevs->len - 1 };
    const char *key, *value;
    while (opts_next(opts, &key, &value)) {
        bool is_known;
        if (!network_key(netdev, key, value, &is_known, error)) {
            g_prefix_error(error, "%s: ", option);
            return FALSE;
        }
        if (is_known)
            continue;
        if (has_card && !strcmp(key, "mac")) {
            if (!net_mac_parse(value, nic.mac, error))
                return FALSE;
            nic.has_mac = true;
        } else if (has_card && !strcmp(key, "model")) {
            if (strcmp(value, "virtio-net-pci") != 0 && strcmp(value, "virtio") != 0)
                return usage(error, "%s model=%s: only virtio-net-pci is in this version", option, value);
        } else {
            return usage(error, "%s user: unknown property '%s'; known: id hostfwd restrict net host dhcpstart dns hostname domainname dnssearch tftp bootfile%s", option, key,
                         has_card ? " model mac" : "");
        }
    }
    if (has_card)
        card_add(config, &nic);
    return addresses_complete(netdev, error);
}

static gboolean kind_check(const char *option, const char *kind, GError **error)
{
    return !g_strcmp0(kind, "user") ? TRUE : usage(error, "%s %s: only user is in this version", option, kind ? kind : "");
}

gboolean netdev_args_parse(Config *config, const char *value, GError **error)
{
    g_autoptr(Opts) opts = opts_parse("-netdev", value, "type", error);
    if (!opts || !kind_check("-netdev", opts_take(opts, "type"), error) || !option_parse(config, "-netdev", opts, false, error))
        return FALSE;
    const NetdevConfig *netdev = g_ptr_array_index(config->netdevs, config->netdevs->len - 1);
    return netdev->id ? TRUE : usage(error, "-netdev %s: id=NAME is missing", value);
}

gboolean nic_args_parse(Config *config, const char *value, GError **error)
{
    if (!strcmp(value, "none"))
        return TRUE;
    g_autoptr(Opts) opts = opts_parse("-nic", value, "type", error);
    return opts && kind_check("-nic", opts_take(opts, "type"), error) && option_parse(config, "-nic", opts, true, error);
}

/* "nic" and "user" are on one hub: the cards get their network in config_check_net(). */
gboolean net_args_parse(Config *config, const char *value, GError **error)
{
    if (!strcmp(value, "none"))
        return TRUE;
    g_autoptr(Opts) opts = opts_parse("-net", value, "type", error);
    const char *kind = opts ? opts_take(opts, "type") : NULL;
    if (!opts)
        return FALSE;
    if (g_strcmp0(kind, "nic") != 0) {
        if (config->has_hub)
            return usage(error, "-net user: given twice; one network is possible this way, use -netdev for more");
        config->has_hub = true;
        config->hub = config->netdevs->len;
        return kind_check("-net", kind, error) && option_parse(config, "-net", opts, false, error);
    }
    NicConfig nic = { .netdev = NIC_ON_HUB };
    const char *model = opts_take(opts, "model"), *mac = opts_take(opts, "macaddr");
    opts_take(opts, "name");
    opts_take(opts, "netdev");
    if (model && strcmp(model, "virtio") != 0 && strcmp(model, "virtio-net-pci") != 0)
        return usage(error, "-net nic,model=%s: only virtio is in this version", model);
    if (mac && !net_mac_parse(mac, nic.mac, error))
        return FALSE;
    nic.has_mac = mac != NULL;
    if (!opts_done(opts, "model macaddr", error))
        return FALSE;
    card_add(config, &nic);
    return TRUE;
}

/* -device virtio-net-pci; what is harmless has been taken from @props. */
gboolean net_device_add(Config *config, const char *driver, const char *id_of_card, Opts *props, GError **error)
{
    NicConfig nic = { .netdev = NIC_NO_CABLE };
    const char *id = opts_take(props, "netdev"), *mac = opts_take(props, "mac");
    for (guint i = 0; id && i < config->netdevs->len; i++)
        if (!g_strcmp0(((NetdevConfig *)g_ptr_array_index(config->netdevs, i))->id, id))
            nic.netdev = (int)i;
    if (id && nic.netdev == NIC_NO_CABLE)
        return usage(error, "-device %s,netdev=%s: no -netdev has this id", driver, id);
    if (mac && !net_mac_parse(mac, nic.mac, error))
        return FALSE;
    nic.has_mac = mac != NULL;
    nic.id = g_strdup(id_of_card);
    card_add(config, &nic);
    return opts_done(props, "netdev mac", error);
}

gboolean config_check_net(Config *config, GError **error)
{
    static const uint8_t first_mac[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
    g_autofree bool *is_used = g_new0(bool, config->netdevs->len + 1);
    for (guint i = 0; i < config->nics->len; i++) {
        NicConfig *nic = g_ptr_array_index(config->nics, i);
        if (nic->netdev == NIC_ON_HUB)
            nic->netdev = config->has_hub ? (int)config->hub : NIC_NO_CABLE;
        if (nic->netdev >= 0 && is_used[nic->netdev])
            return usage(error, "-nic, -net, -device virtio-net-pci: two cards on one network are not in this version; give each a -netdev");
        if (nic->netdev >= 0)
            is_used[nic->netdev] = true;
        if (!nic->id)
            nic->id = g_strdup_printf("virtio-net-pci.%u", i);
        if (!nic->has_mac) {
            memcpy(nic->mac, first_mac, sizeof first_mac);
            nic->mac[5] = (uint8_t)(nic->mac[5] + i);
        }
    }
    for (guint i = 0; i < config->netdevs->len; i++) {
        NetdevConfig *netdev = g_ptr_array_index(config->netdevs, i);
        if (!netdev->id)
            netdev->id = g_strdup_printf("net%u", i);
        if (!netdev->host && !addresses_complete(netdev, error)) /* from a .vmx file */
            return FALSE;
        for (guint other = 0; other < i; other++)
            if (!strcmp(((NetdevConfig *)g_ptr_array_index(config->netdevs, other))->id, netdev->id))
                return usage(error, "-netdev user,id=%s: two networks of this name", netdev->id);
        if (!is_used[i])
            return usage(error, "-netdev user: no card is on this network; add -device virtio-net-pci,netdev=ID, or use -nic user");
    }
    return TRUE;
}
