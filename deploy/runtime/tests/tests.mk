# make test-tools    builds the kernels' test and the runner of cases. For another processor, under an emulator:
#                    CXX=aarch64-linux-gnu-g++ CC=aarch64-linux-gnu-gcc TEST_LDFLAGS=-static
TEST_LDFLAGS ?=
TEST_OBJECTS := $(patsubst tests/kernels/%.cpp,$(BUILD)/tests/%.o,$(wildcard tests/kernels/*.cpp))

.PHONY: test-tools
test-tools: $(BUILD)/test-kernels $(BUILD)/test-programs

$(BUILD)/tests/%.o: tests/kernels/%.cpp
	@mkdir -p $(@D)
	$(CXX) -std=c++17 -O1 -Wall -Wextra -Wshadow -MMD -MP -c -o $@ $<

$(BUILD)/tests/programs.o: tests/programs.c
	@mkdir -p $(@D)
	$(CC) -std=c99 -O1 -Wall -Wextra -pedantic -Iinclude -MMD -MP -c -o $@ $<

$(BUILD)/test-kernels: $(TEST_OBJECTS) $(OBJECTS)
	$(CXX) $(TEST_LDFLAGS) -o $@ $^ -lm -pthread

$(BUILD)/test-programs: $(BUILD)/tests/programs.o $(OBJECTS)
	$(CXX) $(TEST_LDFLAGS) -o $@ $^ -lm -pthread

-include $(TEST_OBJECTS:.o=.d) $(BUILD)/tests/programs.d
