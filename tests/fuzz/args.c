/* The command line: the input's lines are its words. */
#include "fuzz.h"

#include <string.h>

#include "config/config.h"

#define WORDS_MAX 64u

/* input_parse: FALSE with @error. */
static gboolean input_parse(const uint8_t *data, size_t size, GError **error)
{
    const char *argv[WORDS_MAX];
    int argc = 0;
    g_autofree char *text = g_malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    for (char *word = text; word && argc < (int)WORDS_MAX; argc++) {
        argv[argc] = word;
        word = strchr(word, '\n');
        if (word)
            *word++ = '\0';
    }
    g_autoptr(Config) config = config_new();
    return args_parse(config, argc, argv, error) && config_check(config, error);
}

size_t fuzz_seeds(FuzzSeed out_seeds[64])
{
    static const FuzzSeed seeds[] = {
        FUZZ_TEXT("-m\nsize=1536M,slots=2,maxmem=4G\n-smp\n4,sockets=2,cores=2,threads=1,maxcpus=4\n-cpu\nmax,+avx2,-sse4.2,vendor=GenuineIntel,family=6"),
        FUZZ_TEXT("-machine\npc,accel=kvm:bt,kernel-irqchip=split\n-accel\nbt,one-insn-per-tb=on\n-name\nguest=a,,b\n-rtc\nbase=2024-02-29T12:00:00"),
        FUZZ_TEXT("-drive\nfile=a.img,if=virtio,format=raw,snapshot=on\n-device\nvirtio-blk-pci,drive=d0,serial=1\n-drive\nid=d0,if=none,file=b,readonly=on"),
        FUZZ_TEXT("-chardev\nsocket,id=c,host=localhost,port=99,server=on,wait=off\n-serial\nmon:stdio\n-mon\nchardev=c,mode=control\n-qmp\nunix:/x,server"),
        FUZZ_TEXT("-sandbox\non,files=deny,spawn=allow\n-object\nrng-random,id=r,filename=/dev/urandom\n-device\npvpanic\n-action\npanic=pause\n-nographic"),
        FUZZ_TEXT("-watchdog-action\nreset\n-device\ni6300esb\n-device\nisa-debug-exit,iobase=0xf4,iosize=4\n-global\nkvm-pit.lost_tick_policy=discard\n-kernel\nk"),
        FUZZ_TEXT("-cpu\nhaswell,+x,-y,model=3,stepping=4\n-M\nq35\n-net\nnone\n-vga\nnone\n-display\nnone\n-kernel\nk\n-append\na b\n-initrd\ni\n-d\nverify,opts"),
    };
    for (size_t i = 0; i < G_N_ELEMENTS(seeds); i++) {
        g_autoptr(GError) error = NULL;
        out_seeds[i] = seeds[i];
        input_parse(seeds[i].bytes, seeds[i].size, &error);
        g_assert_no_error(error); /* what begins as an error stays on the way to one */
    }
    return G_N_ELEMENTS(seeds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    if (!input_parse(data, size, &error))
        g_assert(error && error->message[0]);
    return 0;
}
