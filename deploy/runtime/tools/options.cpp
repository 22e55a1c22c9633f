#include "options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../include/unetq.h"
#include "../src/format.h"
#include "geometry.h"

namespace tool {
namespace {

const char kHelp[] =
    "usage: unetq-run MODEL.uqm IMAGE -o MASK [--threads N] [--isa NAME] [--time] [--memory] [--allow-small]\n"
    "                 [--axes CODE] [--spacing S,R,C]\n"
    "       unetq-run --self-test [DIR]\n"
    "\n"
    "Segments IMAGE (.tif, .tiff, .png, .nii, .nii.gz, .npy) and writes a mask of the same size and geometry, slice "
    "by\n"
    "slice for a 2-D model, at once or through windows for a 3-D one. MASK is of the image's kind; .tif, .png (one "
    "slice)\n"
    "and .npy go into each other. Orientation, spacing, normalisation and label values are the model file's own.\n"
    "\n"
    "  -o, --out MASK     where to write, whole or not at all\n"
    "  --threads N        use N threads (default 1)\n"
    "  --isa NAME         use this instruction set instead of the best one (also: UNETQ_ISA)\n"
    "  --time             print the seconds of loading, preprocessing, running and writing\n"
    "  --memory           print the bytes of the working memory and the peak of the whole process\n"
    "  --allow-small      take images smaller than the network's stride\n"
    "  --axes CODE        for an image that does not say so: where rows, columns and slices increase to, such as LAS\n"
    "  --spacing S,R,C    for an image that does not say so: mm from slice to slice, row to row, column to column\n"
    "  --self-test [DIR]  run the golden vectors of DIR (default: self-test beside the program) on every instruction "
    "set\n"
    "  --help, --version\n"
    "\n"
    "exit codes:\n"
    "  0  done\n"
    "  2  a wrong option, or an output that cannot hold the mask\n"
    "  3  the image is missing, damaged, constant, not finite, too small, or not grey\n"
    "  4  the model file is missing, damaged or of another version\n"
    "  5  a model of other channels than the image has, or whose labels do not fit into a mask\n"
    "  6  the mask cannot be written; nothing was changed\n"
    "  7  the runtime refuses: instruction set, image size, memory\n"
    "  8  --self-test: another result than the golden one\n"
    "  128 + n  stopped by signal n; nothing was written\n";

// The value of option name at *i: behind "=", or the next argument.
bool value_of(const char* name, int count, char** arguments, int* i, const char** value) {
    const char* argument = arguments[*i];
    const size_t length = strlen(name);
    if (strncmp(argument, name, length) != 0 || (argument[length] != 0 && argument[length] != '=')) return false;
    if (argument[length] == '=')
        *value = argument + length + 1;
    else
        *value = *i + 1 < count ? arguments[++*i] : nullptr;
    return true;
}

Exit parse_threads(const char* text, uint32_t* threads) {
    uint32_t number = 0;
    const char* at = text;
    for (; *at >= '0' && *at <= '9' && number <= uint32_t{UQ_MAX_THREADS}; ++at)
        number = number * 10 + static_cast<uint32_t>(*at - '0');
    if (at == text || *at || number < 1 || number > uint32_t{UQ_MAX_THREADS})
        return fail(kUsage, "--threads %.40s: a number from 1 to %u is expected; leave it out for 1.", text,
                    uint32_t{UQ_MAX_THREADS});
    *threads = number;
    return kDone;
}

Exit parse_spacing(const char* text, double spacing[3]) {
    const char* at = text;
    for (int i = 0; i < 3; ++i) {
        char* end = nullptr;
        spacing[i] = strtod(at, &end);
        if (end == at || *end != (i < 2 ? ',' : 0) || !isfinite(spacing[i]) || !(spacing[i] > 0))
            return fail(kUsage,
                        "--spacing %.80s: three lengths in mm above 0 are expected, of slices, rows and columns, such "
                        "as 3,0.5,0.5.",
                        text);
        at = end + 1;
    }
    return kDone;
}

Exit parse_axes(const char* text) {
    if (is_axes(text)) return kDone;
    return fail(kUsage,
                "--axes %.80s: three letters say where rows, columns and slices increase to, one of L or R, one of A "
                "or P and one of S or I, such as RAS or LPS.",
                text);
}

Exit take_positional(const char* argument, Options* options) {
    const char** place = !options->model ? &options->model : !options->image ? &options->image : nullptr;
    if (!place) return fail(kUsage, "%.200s: a third name; one model and one image are taken. See --help.", argument);
    *place = argument;
    return kDone;
}

Exit take_flag(const char* argument, Options* options) {
    const struct {
        const char* name;
        bool* flag;
    } flags[] = {{"--help", &options->help}, {"-h", &options->help},         {"--version", &options->version},
                 {"--time", &options->time}, {"--memory", &options->memory}, {"--allow-small", &options->allow_small}};
    for (const auto& known : flags) {
        if (strcmp(argument, known.name) != 0) continue;
        *known.flag = true;
        return kDone;
    }
    return fail(kUsage, "%.200s: no such option. See --help.", argument);
}

}  // namespace

Exit parse_options(int count, char** arguments, Options* options) {
    *options = Options{};
    options->threads = 1;
    bool only_names = false;
    for (int i = 1; i < count; ++i) {
        const char* argument = arguments[i];
        const char *threads = nullptr, *spacing = nullptr;
        const bool valued = !only_names && (value_of("-o", count, arguments, &i, &options->out) ||
                                            value_of("--out", count, arguments, &i, &options->out) ||
                                            value_of("--isa", count, arguments, &i, &options->isa) ||
                                            value_of("--axes", count, arguments, &i, &options->axes) ||
                                            value_of("--spacing", count, arguments, &i, &spacing) ||
                                            value_of("--threads", count, arguments, &i, &threads));
        if (valued) {
            if (arguments[i] == argument && !strchr(argument, '='))
                return fail(kUsage, "%.200s: a value is missing behind it. See --help.", argument);
            if (threads) TOOL_TRY(parse_threads(threads, &options->threads));
            if (spacing) TOOL_TRY(parse_spacing(spacing, options->spacing));
            if (options->axes) TOOL_TRY(parse_axes(options->axes));
        } else if (!only_names && strcmp(argument, "--") == 0) {
            only_names = true;
        } else if (!only_names && strcmp(argument, "--self-test") == 0) {
            options->run_self_test = true;
            if (i + 1 < count && arguments[i + 1][0] != '-') options->self_test = arguments[++i];
        } else if (!only_names && argument[0] == '-') {
            TOOL_TRY(take_flag(argument, options));
        } else {
            TOOL_TRY(take_positional(argument, options));
        }
    }
    if (options->help || options->version) return kDone;
    if (options->run_self_test)
        return options->model
                   ? fail(kUsage, "%.200s: --self-test takes a folder and no model. See --help.", options->model)
                   : kDone;
    if (!options->model || !options->image) return fail(kUsage, "a model and an image are needed. See --help.");
    if (!options->out || !*options->out) return fail(kUsage, "no output: name the mask with -o. See --help.");
    return kDone;
}

void print_help() {
    fputs(kHelp, stdout);
}

void print_version() {
    printf("unetq-run: library version %u, model files of version %u, instruction sets here:", uq_api_version(),
           uq::kVersion);
    for (uint32_t i = 0; uq_available_isa(i); ++i) printf(" %s", uq_available_isa(i));
    printf("\n");
}

}  // namespace tool
