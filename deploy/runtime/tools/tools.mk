# Included by ../Makefile. The program is linked statically where the toolchain can; STATIC= forces a dynamic one.
OUT_RUN ?= $(BUILD)/unetq-run
TOOL_OBJECTS := $(patsubst %.cpp,$(BUILD)/%.o,$(wildcard tools/*.cpp))
STATIC ?= $(shell echo 'int main() { return 0; }' | $(CXX) -x c++ - -static -o /dev/null 2>/dev/null && echo -static)

.PHONY: run
run: $(OUT_RUN)

$(OUT_RUN): $(OBJECTS) $(TOOL_OBJECTS)
	@mkdir -p $(@D)
	$(CXX) $(STATIC) -pthread $(LDFLAGS) -o $@.part $^ -lm
	mv $@.part $@

# Files beyond 2 GB on 32-bit processors, too.
$(BUILD)/tools/%.o: tools/%.cpp Makefile tools/tools.mk
	@mkdir -p $(@D)
	$(CXX) $(STRICT) -D_FILE_OFFSET_BITS=64 $(CXXFLAGS) -c -o $@ $<

-include $(TOOL_OBJECTS:.o=.d)
