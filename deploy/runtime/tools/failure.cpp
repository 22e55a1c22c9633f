#include "failure.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

namespace tool {
namespace {

char text[1024] = "";
volatile sig_atomic_t caught = 0;

void on_signal(int number) {
    caught = number;
}

}  // namespace

Exit fail(Exit code, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return code;
}

const char* sentence() {
    return text;
}

void watch_signals() {
    struct sigaction action = {};
    action.sa_handler = on_signal;  // without SA_RESTART: a waiting read comes back
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (int number : numbers) {
        struct sigaction before = {};
        // What the caller ignores (nohup) stays ignored.
        if (sigaction(number, nullptr, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(number, &action, nullptr);
    }
    // A full quota and a closed pipe are errors of write(), not the end of the process.
    action.sa_handler = SIG_IGN;
    sigaction(SIGXFSZ, &action, nullptr);
    sigaction(SIGPIPE, &action, nullptr);
}

bool stopped() {
    return caught != 0;
}

Exit stop_here() {
    return fail(static_cast<Exit>(kStopped + caught), "stopped by signal %d; nothing was written.",
                static_cast<int>(caught));
}

}  // namespace tool
