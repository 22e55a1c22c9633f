// The command line.
#ifndef UNETQ_TOOLS_OPTIONS_H
#define UNETQ_TOOLS_OPTIONS_H

#include <stdint.h>

#include "failure.h"

namespace tool {

struct Options {
    const char* model;
    const char* image;
    const char* out;
    const char* isa;        // NULL: the best there is
    const char* self_test;  // its folder, NULL: beside the program
    const char* axes;       // of an image that does not say them, as spacing; NULL: not given
    double spacing[3];      // mm (slices, rows, columns); 0: not given
    uint32_t threads;
    bool run_self_test, help, version, time, memory, allow_small;
};

Exit parse_options(int count, char** arguments, Options* options);
void print_help();
void print_version();

}  // namespace tool

#endif
