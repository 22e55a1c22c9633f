// Checks the records of a model file and fills a model from them: reader.cpp has the program, tensors and labels,
// reader_ops.cpp the operations, reader_conv.cpp convolutions and their weights.
#ifndef UNETQ_READER_H
#define UNETQ_READER_H

#include "container.h"
#include "model.h"

namespace uq {

class Reader : public Container {
  public:
    explicit Reader(uq_model* model) : Container(model->mapping.data, model->mapping.bytes), model_(model) {}

    uq_status read();

  private:
    // reader.cpp
    uq_status read_program();
    uq_status read_preprocessing(const FileProgram& p);
    uq_status read_tensors();
    uq_status read_grid(const FileTensor& row, Tensor* tensor);
    uq_status read_labels();

    // reader_ops.cpp
    uq_status read_ops();
    uq_status read_op(const FileOp& row, const Array<uint8_t>& made, Op* op);
    uq_status check_record(const FileOp& row, const Op& op);
    uq_status check_operands(const FileOp& row, const Array<uint8_t>& made, Op* op);
    uq_status check_channels(const Op& op);
    uq_status check_grids(const Op& op);
    uq_status check_geometry(const FileOp& row, const Op& op);
    uq_status read_epilogue(const FileOp& row, Op* op);
    uq_status read_norm(const FileOp& row, Op* op);
    uq_status read_table(const FileOp& row, Op* op);
    void drop_relu(Op* op);

    // reader_conv.cpp
    uq_status read_conv(const FileOp& row, Op* op);
    uq_status check_conv(const FileOp& row, const Op& op);
    uq_status read_weights(const FileOp& row, Op* op);
    uq_status read_levels(const FileOp& row, Op* op);
    uq_status read_shifts(const FileOp& row, Op* op);

    // Whether codes of the two mean the same values.
    static bool same_codes(const Tensor& a, const Tensor& b);
    uint64_t input_channels(const Op& op) const;
    // What came with a version is refused in a file of an older one.
    uq_status needs(uint32_t version, const char* where, const char* what);

    uq_model* model_;
    bool flat_ = false;  // a 2-D model
};

}  // namespace uq

#endif
