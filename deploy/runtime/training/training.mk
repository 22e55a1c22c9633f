# The training kernels (fake_quant.cpp): a library of their own beside the runtime's, never part of a device's.
OUT_TRAINING ?= $(dir $(OUT))libunetq_training.so
TRAINING := $(BUILD)/training
TRAINING_LANES := $(TRAINING)/lanes_baseline.o
TRAINING_FLAGS := $(STRICT) $(CXXFLAGS) -O3 -fno-trapping-math -Wno-psabi -pthread

ifneq (,$(filter x86_64%,$(TARGET)))
TRAINING_LANES += $(TRAINING)/lanes_avx2.o $(TRAINING)/lanes_avx512.o
$(TRAINING)/fake_quant.o: TRAINING_FLAGS += -DUNETQ_X86
$(TRAINING)/lanes_avx2.o: TRAINING_FLAGS += -mavx2
$(TRAINING)/lanes_avx512.o: TRAINING_FLAGS += -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512
endif

TRAINING_OBJECTS := $(TRAINING)/fake_quant.o $(TRAINING_LANES)

.PHONY: training
training: $(OUT_TRAINING)

$(OUT_TRAINING): $(TRAINING_OBJECTS)
	@mkdir -p $(@D)
	$(CXX) -shared -pthread $(LDFLAGS) -o $@.part $^
	mv $@.part $@

$(TRAINING)/fake_quant.o: training/fake_quant.cpp Makefile training/training.mk
	@mkdir -p $(@D)
	$(CXX) $(TRAINING_FLAGS) -c -o $@ $<

$(TRAINING_LANES): $(TRAINING)/lanes_%.o: training/lanes.cpp Makefile training/training.mk
	@mkdir -p $(@D)
	$(CXX) $(TRAINING_FLAGS) -DUNETQ_LANES=$* -c -o $@ $<

-include $(TRAINING_OBJECTS:.o=.d)
