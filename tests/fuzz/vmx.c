/* The .vmx reader: any bytes are a configuration or a sentence with file:line; what is written again is read again. */
#include "fuzz.h"

#include "config/vmx.h"

size_t fuzz_seeds(FuzzSeed out_seeds[64])
{
    static const FuzzSeed seeds[] = {
        FUZZ_TEXT("# note\nmemsize = \"96\"\r\ndisplayName = \"a|22b\"\nnumvcpus = \"2\"\nide0:0.present = \"TRUE\"\nide0:0.fileName = \"d.img\"\n"
                  "ide0:0.mode = \"independent-nonpersistent\"\nserial0.present = \"TRUE\"\nserial0.fileType = \"pipe\"\nserial0.fileName = \"/tmp/p\"\n"),
        FUZZ_TEXT("config.dialect = \"ws5.5\"\nmonitor_control.vt32 = \"TRUE\"\nserial1.fileType = \"network\"\n"
                  "serial1.fileName = \"tcp://localhost:99\"\nserial1.network.endPoint = \"client\"\nsegue.kernel = \"k\"\nsegue.append = \"quiet\"\n"),
        FUZZ_TEXT("monitor.virtual_exec = \"automatic\"\nmonitor.virtual_mmu = \"software\"\nmonitor.long_mode = \"jump\"\nmonitor.fallback = \"bt\"\n"
                  "scsi0:0.present = \"FALSE\"\nfirmware = \"bios\"\ntools.syncTime = \"FALSE\"\n"),
    };
    for (size_t i = 0; i < G_N_ELEMENTS(seeds); i++)
        out_seeds[i] = seeds[i];
    return G_N_ELEMENTS(seeds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VmxFile) file = vmx_parse("t.vmx", (const char *)data, size, &error);
    if (!file) {
        g_assert(error);
        return 0;
    }
    g_autoptr(Config) config = config_new();
    if (vmx_apply(file, config, &error) && !config_check(config, &error))
        g_assert(error);
    g_clear_error(&error);
    vmx_set(file, "memsize", "64", &error);
    g_assert_no_error(error);
    vmx_remove(file, "displayname");
    g_autofree char *text = vmx_text(file);
    g_autoptr(VmxFile) again = vmx_parse("again.vmx", text, strlen(text), &error);
    g_assert_no_error(error);
    g_assert_cmpstr(vmx_get(again, "MEMSIZE"), ==, "64");
    return 0;
}
