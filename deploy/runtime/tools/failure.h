// How the program fails: an exit code and one sentence with the value, the rule and the remedy.
#ifndef UNETQ_TOOLS_FAILURE_H
#define UNETQ_TOOLS_FAILURE_H

namespace tool {

// The same numbers as the command `unetq`; listed in --help and README.md.
enum Exit : int {
    kDone = 0,
    kUsage = 2,        // an option, or an output that cannot hold the mask
    kImage = 3,        // the image is missing, damaged, or cannot be used
    kModel = 4,        // the model file is missing, damaged, or of another version
    kUnsupported = 5,  // a model that an image file cannot feed, or whose result is no mask
    kOutput = 6,       // the mask cannot be written
    kRuntime = 7,      // the runtime refuses, or there is not enough memory
    kMismatch = 8,     // --self-test: another result than the one that was shipped
    kStopped = 128     // + the number of the signal
};

// Stores the sentence (printf style) and gives code back.
Exit fail(Exit code, const char* format, ...) __attribute__((format(printf, 2, 3)));
const char* sentence();

// From here on SIGINT, SIGTERM and SIGHUP only set a flag; loops ask for it, so that nothing is left half done.
void watch_signals();
bool stopped();
Exit stop_here();

}  // namespace tool

#define TOOL_TRY(call)                          \
    do {                                        \
        const tool::Exit exit_ = (call);        \
        if (exit_ != tool::kDone) return exit_; \
    } while (0)

#endif
