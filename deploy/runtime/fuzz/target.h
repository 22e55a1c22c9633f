// What a fuzz target gives to a driver: libFuzzer's, or the plain one of main.cpp where there is no libFuzzer.
#ifndef UNETQ_FUZZ_TARGET_H
#define UNETQ_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

#include <string>
#include <vector>

using Bytes = std::vector<uint8_t>;

// One input. A finding ends the process: by a sanitizer, or by abort() behind a message.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes);

// The input that the plain driver makes from one number. pool: the files it was given, may be empty.
Bytes random_input(uint64_t seed, const std::vector<Bytes>& pool);

// Writes what an input stands for (a model, an image) to files that begin with prefix; false where that fails.
bool save_input(const Bytes& input, const std::string& prefix);

// Every input also runs on two threads at once.
extern bool always_threads;

// Makes one result wrong on purpose, so that a test can see that a finding is found.
extern bool spoil;

#endif
