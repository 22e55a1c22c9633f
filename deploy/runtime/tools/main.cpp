// unetq-run: segments an image with a packed low-bit network, without Python. README.md, beside this folder, has the
// rest.
#include <stdio.h>

#include "segment.h"
#include "self_test.h"

int main(int count, char** arguments) {
    tool::watch_signals();
    tool::Options options;
    tool::Exit code = tool::parse_options(count, arguments, &options);
    if (code == tool::kDone) {
        if (options.help)
            tool::print_help();
        else if (options.version)
            tool::print_version();
        else
            code = options.run_self_test ? tool::self_test(options) : tool::segment(options);
    }
    if (code != tool::kDone) fprintf(stderr, "error: %s\n", tool::sentence());
    return code;
}
