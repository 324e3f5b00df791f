/* -cpu: models as data, features, and who the CPU says it is. */
#include <string.h>

#include "config/config.h"
#include "config/usage.h"

/*
 * Models are what the engine offers, less what the level lacks; a named part also says that it is this part.  So a guest made for a Haswell
 * finds one, but software that goes by a single feature's presence should name it with +feature.
 * Levels: the x86-64 psABI's microarchitecture levels, with the crypto and random-number instructions of the first parts that had them.
 * Signatures: CPUID leaf 1 EAX of a part that was sold; SDM 4 table 2-1, AMD revision guides.
 */
typedef enum CpuLevel { LEVEL_32BIT, LEVEL_V1, LEVEL_V2, LEVEL_AVX, LEVEL_V3, LEVEL_V4, LEVEL_ALL, LEVEL_MAX } CpuLevel;

typedef struct CpuModel {
    const char *name;
    CpuLevel level;
    const char *vendor; /* NULL, with @signature 0: whoever a plain part is */
    uint32_t signature;
    const char *what;
} CpuModel;

#define INTEL "GenuineIntel"
#define AMD "AuthenticAMD"

static const CpuModel models[] = {
    { "base", LEVEL_ALL, NULL, 0, "all that the engine offers (default)" },
    { "max", LEVEL_MAX, NULL, 0, "and protection keys (pku, pks), which many hosts lack" },
    { "host", LEVEL_ALL, NULL, 0, "the same as base" },
    { "qemu64", LEVEL_ALL, NULL, 0, "the same; 64-bit scripts name it" },
    { "kvm64", LEVEL_ALL, NULL, 0, "the same" },
    { "qemu32", LEVEL_32BIT, NULL, 0, "without long mode" },
    { "kvm32", LEVEL_32BIT, NULL, 0, "without long mode" },
    { "x86-64-v1", LEVEL_V1, NULL, 0, "SSE2" },
    { "x86-64-v2", LEVEL_V2, NULL, 0, "SSE4.2, POPCNT, CX16" },
    { "x86-64-v3", LEVEL_V3, NULL, 0, "AVX2, BMI, FMA, MOVBE" },
    { "x86-64-v4", LEVEL_V4, NULL, 0, "AVX-512 F, BW, CD, DQ, VL where the engine has them" },
    { "Conroe", LEVEL_V1, INTEL, 0x006f2, "Core 2, 65 nm" },
    { "Penryn", LEVEL_V1, INTEL, 0x10676, "Core 2, 45 nm" },
    { "Nehalem", LEVEL_V2, INTEL, 0x106a3, "Core i7 9xx" },
    { "Westmere", LEVEL_V2, INTEL, 0x206c1, "Xeon 56xx" },
    { "SandyBridge", LEVEL_AVX, INTEL, 0x206a1, "Xeon E3-12xx" },
    { "IvyBridge", LEVEL_AVX, INTEL, 0x306a9, "Xeon E3-12xx v2" },
    { "Haswell", LEVEL_V3, INTEL, 0x306c4, "Core, 4th generation" },
    { "Broadwell", LEVEL_V3, INTEL, 0x306d2, "Core, 5th generation" },
    { "Skylake-Client", LEVEL_V3, INTEL, 0x506e3, "Core, 6th generation" },
    { "Skylake-Server", LEVEL_V4, INTEL, 0x50654, "Xeon Scalable, 1st generation" },
    { "Cascadelake-Server", LEVEL_V4, INTEL, 0x50656, "Xeon Scalable, 2nd generation" },
    { "Icelake-Server", LEVEL_ALL, INTEL, 0x606a0, "Xeon Scalable, 3rd generation" },
    { "Sapphirerapids", LEVEL_ALL, INTEL, 0x806f4, "Xeon Scalable, 4th generation" },
    { "Opteron_G1", LEVEL_V1, AMD, 0x00f61, "family 0Fh" },
    { "Opteron_G3", LEVEL_V1, AMD, 0x100f23, "family 10h" },
    { "Opteron_G5", LEVEL_AVX, AMD, 0x600f20, "family 15h" },
    { "EPYC", LEVEL_V3, AMD, 0x800f12, "1st generation" },
    { "EPYC-Rome", LEVEL_V3, AMD, 0x830f10, "2nd generation" },
    { "EPYC-Milan", LEVEL_V3, AMD, 0xa00f11, "3rd generation" },
    { "EPYC-Genoa", LEVEL_ALL, AMD, 0xa10f11, "4th generation" },
};

/* What a level adds to the one below it: gone from a model that does not reach it. */
static const struct {
    CpuLevel level;
    const char *names;
} level_features[] = {
    { LEVEL_V1, "lm nx rdtscp pdpe1gb" }, /* of the 32-bit models only */
    { LEVEL_V2, "pni ssse3 sse4.1 sse4.2 popcnt cx16" },
    { LEVEL_AVX, "avx xsave xsaveopt pclmulqdq aes" },
    { LEVEL_V3, "avx2 bmi1 bmi2 fma f16c movbe abm rdrand invpcid erms fsgsbase smep" },
    { LEVEL_V4, "avx512f avx512bw avx512cd avx512dq avx512vl clwb xsavec xgetbv1 rdseed adx smap clflushopt" },
    { LEVEL_ALL, "avx512ifma avx512vbmi avx512-vbmi2 avx512-vnni avx512-bitalg avx512-vpopcntdq avx512-bf16 avx512-fp16 gfni vaes vpclmulqdq "
                 "sha-ni avx-vnni fsrm umip rdpid" },
    { LEVEL_MAX, "pku pks" }, /* off until asked for */
};

/* "Haswell-v2", "Haswell-noTSX-IBRS": the same part with other microcode. */
static const CpuModel *model_find(const char *name)
{
    static const char *const suffixes[] = { "-IBRS", "-IBPB", "-noTSX" };
    g_autofree char *stem = g_strdup(name);
    for (bool is_shorter = true; is_shorter;) {
        is_shorter = false;
        for (size_t i = 0; i < G_N_ELEMENTS(models); i++)
            if (!g_ascii_strcasecmp(models[i].name, stem))
                return &models[i];
        size_t size = strlen(stem);
        for (size_t i = 0; i < G_N_ELEMENTS(suffixes) && !is_shorter; i++)
            if (size > strlen(suffixes[i]) && !g_ascii_strcasecmp(stem + size - strlen(suffixes[i]), suffixes[i])) {
                stem[size - strlen(suffixes[i])] = 0;
                is_shorter = true;
            }
        if (!is_shorter && size > 3 && g_ascii_isdigit(stem[size - 1]) && stem[size - 2] == 'v' && stem[size - 3] == '-') {
            stem[size - 3] = 0;
            is_shorter = true;
        }
    }
    return NULL;
}

static gboolean model_unknown(const char *name, GError **error)
{
    GString *names = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(models); i++)
        g_string_append_printf(names, "%s%s", i ? ", " : "", models[i].name);
    usage(error, "-cpu %s: unknown model; known: %s", name, names->str);
    g_string_free(names, TRUE);
    return FALSE;
}

const char *cpu_model_name(unsigned index) { return index < G_N_ELEMENTS(models) ? models[index].name : NULL; }

static char *cpu_help(void)
{
    GString *text = g_string_new("Available CPUs:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(models); i++)
        g_string_append_printf(text, "x86 %-20s  %s\n", models[i].name, models[i].what);
    g_string_append(text, "\nFeatures: +name, -name, name=on|off\nWho it says it is: vendor=, family=, model=, stepping=\n");
    return g_string_free(text, FALSE);
}

static void cpu_feature_add(Config *config, const char *name, bool on)
{
    ConfigCpuFeature *feature = g_new(ConfigCpuFeature, 1);
    feature->name = g_strdup(name);
    feature->on = on;
    g_ptr_array_add(config->cpu_features, feature);
}

/* The whole option is read anew: what an earlier one said is forgotten. */
static void model_apply(Config *config, const char *name, const CpuModel *model)
{
    text_replace(&config->cpu_name, name);
    text_replace(&config->cpu_vendor, model->vendor);
    config->cpu_signature = model->signature;
    g_ptr_array_set_size(config->cpu_features, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(level_features); i++) {
        /* A 32-bit model lacks long mode and what came with it, not the other instructions. */
        bool is_lacking = model->level == LEVEL_32BIT ? level_features[i].level == LEVEL_V1 : level_features[i].level > model->level;
        g_auto(GStrv) names = g_strsplit(level_features[i].names, " ", -1);
        for (char **word = names; is_lacking && *word; word++)
            cpu_feature_add(config, *word, false);
        for (char **word = names; level_features[i].level == LEVEL_MAX && model->level == LEVEL_MAX && *word; word++)
            cpu_feature_add(config, *word, true);
    }
}

/* Switches of -cpu that are no CPUID bits and change nothing here. */
static bool is_cpu_switch(const char *name)
{
    static const char *const names[] = { "host-phys-bits", "migratable", "enforce", "check", "kvm", "l3-cache", "lmce", "pmu",
                                         "legacy-cache", "host-cache-info", "full-cpuid-auto-level", "fill-mtrr-mask" };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (!strcmp(name, names[i]))
            return true;
    return g_str_has_prefix(name, "hv-") || g_str_has_prefix(name, "hv_") || g_str_has_prefix(name, "kvm-") ||
           g_str_has_prefix(name, "kvm_");
}

/* Fields of CPUID leaf 1 (SDM 2A figure 3-6). */
typedef struct CpuNumbers {
    uint64_t family, model, stepping;
} CpuNumbers;

/* "family=", "model=", "stepping=".  Returns: FALSE when @word is none of them. */
static gboolean cpu_number_take(CpuNumbers *numbers, const char *word, bool *out_is_bad)
{
    const struct {
        const char *key;
        uint64_t *number, max;
    } rows[] = { { "family=", &numbers->family, 255 + 15 }, { "model=", &numbers->model, 255 }, { "stepping=", &numbers->stepping, 15 } };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!g_str_has_prefix(word, rows[i].key))
            continue;
        char *end;
        const char *digits = word + strlen(rows[i].key);
        *rows[i].number = g_ascii_strtoull(digits, &end, 0);
        *out_is_bad = !g_ascii_isdigit(*digits) || *end || *rows[i].number > rows[i].max;
        return TRUE;
    }
    return FALSE;
}

static uint32_t cpu_numbers_signature(const CpuNumbers *numbers)
{
    uint32_t family = (uint32_t)MIN(numbers->family, 15), extended = (uint32_t)numbers->family - family, model = (uint32_t)numbers->model;
    return (uint32_t)numbers->stepping | (model & 15) << 4 | family << 8 | model >> 4 << 16 | extended << 20;
}

gboolean cpu_args_parse(Config *config, const char *value, GError **error)
{
    if (!strcmp(value, "help") || !strcmp(value, "?")) {
        config->action = CONFIG_TEXT;
        g_free(config->text);
        config->text = cpu_help();
        return TRUE;
    }
    g_auto(GStrv) words = g_strsplit(value, ",", -1);
    if (!words[0] || !words[0][0] || strchr(words[0], '='))
        return usage(error, "-cpu %s: the first word must be a model, for example max", value);
    const CpuModel *model = model_find(words[0]);
    if (!model)
        return model_unknown(words[0], error);
    CpuNumbers numbers = { .family = 6 };
    model_apply(config, words[0], model);
    for (char **word = words + 1; *word; word++) {
        bool is_bad = false;
        if (cpu_number_take(&numbers, *word, &is_bad)) {
            if (is_bad)
                return usage(error, "-cpu %s: '%s' is not a number that CPUID holds (family to 270, model to 255, stepping to 15)", value, *word);
            config->cpu_signature = cpu_numbers_signature(&numbers);
            continue;
        }
        if ((*word)[0] == '+' || (*word)[0] == '-') {
            if (!(*word)[1])
                return usage(error, "-cpu %s: '%s' lacks a feature name", value, *word);
            cpu_feature_add(config, *word + 1, (*word)[0] == '+');
            continue;
        }
        char *equals = strchr(*word, '=');
        bool on = true;
        if (g_str_has_prefix(*word, "vendor=")) {
            if (strlen(*word + 7) != 12)
                return usage(error, "-cpu %s: vendor must be 12 characters, for example AuthenticAMD", value);
            text_replace(&config->cpu_vendor, *word + 7);
            continue;
        }
        if (equals) {
            *equals = 0;
            if (!parse_bool(equals + 1, &on)) {
                g_ptr_array_add(config->ignored, g_strdup_printf("-cpu %s=%s", *word, equals + 1));
                continue;
            }
        }
        if (!(*word)[0])
            return usage(error, "-cpu %s: empty feature", value);
        if (is_cpu_switch(*word))
            g_ptr_array_add(config->ignored, g_strdup_printf("-cpu %s", *word));
        else
            cpu_feature_add(config, *word, on);
    }
    return TRUE;
}
