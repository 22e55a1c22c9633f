// A driver for machines without libFuzzer: replays files, then makes inputs from a seed. The same seed makes the same
// inputs everywhere, and a finding tells how to come back to it.
#define _FILE_OFFSET_BITS 64  // or a 32-bit program finds no files on a large disk
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>

#include "target.h"

extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

// gcc's UndefinedBehaviorSanitizer is a library of its own, which knows no callbacks: it aborts.
extern "C" __attribute__((visibility("default"))) const char* __ubsan_default_options() {
    return "print_stacktrace=1:abort_on_error=1";
}
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() {
    return "halt_on_error=1:abort_on_error=1";
}

namespace {

char current[512] = "before the first input";

void tell_current() {
    fprintf(stderr, "\nThe input was %s.\n", current);
}

void on_signal(int number) {
    tell_current();
    signal(number, SIG_DFL);
    raise(number);
}

bool read_file(const std::string& path, Bytes* bytes) {
    FILE* file = fopen(path.c_str(), "rb");
    if (!file) return false;
    uint8_t part[4096];
    bytes->clear();
    for (size_t got; (got = fread(part, 1, sizeof part, file)) > 0;) bytes->insert(bytes->end(), part, part + got);
    const bool whole = !ferror(file);
    fclose(file);
    bytes->shrink_to_fit();
    return whole;
}

// A file, or the files of a folder in the order of their names.
bool collect(const std::string& path, std::vector<std::string>* files) {
    struct stat about;
    if (stat(path.c_str(), &about) != 0) return false;
    if (!S_ISDIR(about.st_mode)) {
        files->push_back(path);
        return true;
    }
    DIR* folder = opendir(path.c_str());
    if (!folder) return false;
    std::vector<std::string> found;
    errno = 0;
    while (const dirent* entry = readdir(folder))
        if (entry->d_name[0] != '.') found.push_back(path + "/" + entry->d_name);
    const bool whole = errno == 0;
    closedir(folder);
    std::sort(found.begin(), found.end());
    files->insert(files->end(), found.begin(), found.end());
    return whole;
}

int usage(const char* name) {
    fprintf(
        stderr,
        "usage: %s [--runs N] [--seconds S] [--seed N] [--start N] [--threads] [--spoil] [--save PREFIX] [FILE|FOLDER "
        "...]\n"
        "Replays the files, then runs N inputs made from the seed, from number --start on.\n"
        "--threads: every input also on two threads at once. --save: write what the inputs stand for; run nothing.\n",
        name);
    return 2;
}

uint64_t input_seed(uint64_t seed, uint64_t number) {
    return seed * 0x9E3779B97F4A7C15ull + number;
}

}  // namespace

int main(int count, char** argument) {
    uint64_t runs = 0, seed = 1, start = 0, seconds = 0, done = 0;
    std::string prefix;
    std::vector<std::string> files;
    for (int i = 1; i < count; ++i) {
        const char* word = argument[i];
        uint64_t* number = !strcmp(word, "--runs")      ? &runs
                           : !strcmp(word, "--seconds") ? &seconds
                           : !strcmp(word, "--seed")    ? &seed
                           : !strcmp(word, "--start")   ? &start
                                                        : nullptr;
        if (!strcmp(word, "--threads")) {
            always_threads = true;
        } else if (!strcmp(word, "--spoil")) {
            spoil = true;
        } else if ((number || !strcmp(word, "--save")) && i + 1 < count) {
            if (number)
                *number = strtoull(argument[++i], nullptr, 10);
            else
                prefix = argument[++i];
        } else if (word[0] == '-') {
            return usage(argument[0]);
        } else if (!collect(word, &files)) {
            fprintf(stderr, "%s: it cannot be read. Name an existing file or folder.\n", word);
            return 2;
        }
    }
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(tell_current);
    for (int number : {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE})
        if (!__sanitizer_set_death_callback || number == SIGABRT) signal(number, on_signal);
    std::vector<Bytes> pool(files.size());
    for (size_t i = 0; i < files.size(); ++i) {
        if (!read_file(files[i], &pool[i])) {
            fprintf(stderr, "%s: it cannot be read. Name a readable file.\n", files[i].c_str());
            return 2;
        }
        snprintf(current, sizeof current, "the file %s", files[i].c_str());
        if (prefix.empty()) LLVMFuzzerTestOneInput(pool[i].data(), pool[i].size());
    }
    const time_t begin = time(nullptr);
    for (; done < runs || (seconds && time(nullptr) - begin < static_cast<time_t>(seconds)); ++done) {
        const uint64_t at = start + done;
        snprintf(current, sizeof current, "--seed %llu --start %llu --runs 1", static_cast<unsigned long long>(seed),
                 static_cast<unsigned long long>(at));
        const Bytes input = random_input(input_seed(seed, at), pool);
        if (prefix.empty()) {
            LLVMFuzzerTestOneInput(input.data(), input.size());
        } else if (!save_input(input, prefix + std::to_string(at))) {
            fprintf(stderr, "%s: it cannot be written. Name a folder that exists.\n", prefix.c_str());
            return 1;
        }
    }
    printf("%zu files, %llu runs from seed %llu: no finding\n", files.size(), static_cast<unsigned long long>(done),
           static_cast<unsigned long long>(seed));
    return 0;
}
