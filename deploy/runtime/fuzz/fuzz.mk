# The fuzz targets and the sanitizers. Every kind of build has a folder of its own under $(BUILD).
#
# make fuzz                     fuzz_loader and fuzz_run: on libFuzzer where clang has it, else plain programs
# make fuzz-run SECONDS=600     each of them for so long, from the corpus on; findings in $(BUILD)/fuzz
# make sanitize [RUNS=1000]     tests/run.c, the corpus and random inputs: AddressSanitizer, UndefinedBehaviorSanitizer
# make tsan [RUNS=1000]         the same graphs on two threads at once and on pools: ThreadSanitizer
# make fuzz-programs            the plain programs as CXX and CXXFLAGS say, for boards and for qemu;
# make asan-programs, tsan-programs    the same under the sanitizers, in $(BUILD)/asan and $(BUILD)/tsan
#
# A plain program tells how to come back to a finding: fuzz_run --seed 1 --start 237 --runs 1. With --save PREFIX it
# writes the model and the image of that input instead, for Python (unetq.runtime, Program.run).
SECONDS ?= 600
RUNS ?= 1000
SEED ?= 1

# "undefined" has no conversions of floats by itself: codes must be clamped before they are integers.
ASAN := -O2 -g -fno-omit-frame-pointer -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all
TSAN := -O1 -g -fsanitize=thread
FUZZ_CXX ?= $(firstword $(foreach c,clang++ $(foreach v,22 21 20 19 18 17 16 15 14,clang++-$(v)),$(shell command -v $(c) 2>/dev/null)))
FUZZ_DRIVER ?= main
FUZZ_LINK ?=
FUZZ_PARTS := model_writer mutate session builder builder_sums builder_conv builder_values builder_weights
FUZZ_OBJECTS := $(FUZZ_PARTS:%=$(BUILD)/fuzz/%.o) $(FUZZ_DRIVER:%=$(BUILD)/fuzz/%.o)

.PHONY: fuzz fuzz-run fuzz-programs asan-programs tsan-programs sanitize tsan
fuzz-programs: $(BUILD)/fuzz_loader $(BUILD)/fuzz_run

$(BUILD)/fuzz/%.o: fuzz/%.cpp Makefile fuzz/fuzz.mk
	@mkdir -p $(@D)
	$(CXX) $(STRICT) -Iinclude $(CXXFLAGS) -c -o $@ $<

$(BUILD)/fuzz_loader $(BUILD)/fuzz_run: $(BUILD)/%: $(BUILD)/fuzz/%.o $(FUZZ_OBJECTS) $(OBJECTS)
	$(CXX) $(CXXFLAGS) $(FUZZ_LINK) $(LDFLAGS) -o $@ $^ -lm -pthread

# Counting edges in inner loops costs most of a run and tells nothing.
$(BUILD)/kernels/%.o: override CXXFLAGS := $(filter-out -fsanitize=fuzzer-no-link,$(CXXFLAGS))

-include $(FUZZ_OBJECTS:.o=.d) $(BUILD)/fuzz/fuzz_loader.d $(BUILD)/fuzz/fuzz_run.d

asan-programs:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan CXXFLAGS="$(ASAN)" fuzz-programs

tsan-programs:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan CXXFLAGS="$(TSAN)" fuzz-programs

fuzz:
	@mkdir -p $(BUILD)/fuzz
	@if [ -n "$(FUZZ_CXX)" ] && echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' | \
	    $(FUZZ_CXX) -x c++ -fsanitize=fuzzer,address - -o $(BUILD)/fuzz/probe 2>/dev/null; then \
	  $(MAKE) --no-print-directory BUILD=$(BUILD)/libfuzzer CXX=$(FUZZ_CXX) CXXFLAGS="$(ASAN) -fsanitize=fuzzer-no-link" \
	    FUZZ_LINK=-fsanitize=fuzzer FUZZ_DRIVER= fuzz-programs; \
	else echo "(no clang with libFuzzer: plain programs; apt-get install clang)"; $(MAKE) --no-print-directory asan-programs; fi

# The corpus that grows stays in the build folder; fuzz/corpus is what it starts from.
fuzz-run: fuzz
	@set -e; for target in loader run; do \
	  found=$(BUILD)/fuzz/corpus-$$target; mkdir -p $$found; \
	  if [ -x $(BUILD)/libfuzzer/fuzz_$$target ]; then \
	    $(BUILD)/libfuzzer/fuzz_$$target -max_total_time=$(SECONDS) -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
	      -max_len=$$([ $$target = run ] && echo 256 || echo 16384) -verbosity=1 \
	      -artifact_prefix=$(BUILD)/fuzz/$$target- $$found fuzz/corpus/$$target; \
	  else $(BUILD)/asan/fuzz_$$target --seconds $(SECONDS) --seed $(SEED) fuzz/corpus/$$target; fi; \
	done

# tests/run.c counts allocations with its own malloc; a sanitizer needs the place, so there it counts nothing.
sanitize: asan-programs
	$(CC) -std=c99 -Wall -Wextra -pedantic $(ASAN) -Iinclude -c -o $(BUILD)/asan/run_c99.o tests/run.c
	$(CXX) $(ASAN) -o $(BUILD)/asan/run_c99 $(BUILD)/asan/run_c99.o $(OBJECTS:$(BUILD)/%=$(BUILD)/asan/%) -lm -pthread
	$(BUILD)/asan/run_c99
	$(BUILD)/asan/fuzz_loader --runs $$(($(RUNS) * 10)) --seed $(SEED) fuzz/corpus/loader
	$(BUILD)/asan/fuzz_run --runs $(RUNS) --seed $(SEED) fuzz/corpus/run

# Old ThreadSanitizers know no address space as random as new kernels make it: setarch -R.
tsan: tsan-programs
	$$(setarch -R true 2>/dev/null && echo setarch -R) $(BUILD)/tsan/fuzz_run --threads --runs $(RUNS) --seed $(SEED) fuzz/corpus/run
