// One processing element. Operands hop from PE to PE, one a cycle; sums move up, towards the top edge.
//
// STATIONARY 0 (output stationary): left and top operands both move; their product is added to the sum standing here.
//   While `drain` is high, sums move up by one row a cycle (zeros enter at the bottom, so a drained array starts from zero).
// STATIONARY 1 (weight stationary; input stationary with the operands' roles exchanged): while `load` is high the top
//   operand is shifted down and then stands here; each left operand gives  sum below + stationary word * left word.
// A register is clocked only when a valid word arrives; it holds otherwise, also from fold to fold.
module pe #(
    parameter LEFT_BITS = 8,
    parameter TOP_BITS = 8,
    parameter SUM_BITS = 32,
    parameter STATIONARY = 0,
    parameter SIGN_MAGNITUDE = 0
) (
    input wire clk,
    input wire reset,
    input wire load,
    input wire drain,
    input wire right_used,  // the PE to the right takes part in this fold; else nothing is handed on
    input wire below_used,
    input wire left_valid,
    input wire [LEFT_BITS-1:0] left,
    input wire top_valid,
    input wire [TOP_BITS-1:0] top,
    input wire signed [SUM_BITS-1:0] sum_below,
    output reg right_valid,
    output reg [LEFT_BITS-1:0] right,
    output reg below_valid,
    output reg [TOP_BITS-1:0] below,
    output reg signed [SUM_BITS-1:0] sum,
    output wire signed [SUM_BITS-1:0] sum_next,  // what `sum` becomes at this clock edge, if a product is made
    output wire taken  // an operand pair is multiplied in this cycle
);
    wire top_taken = top_valid & (STATIONARY == 0 || load);
    wire [TOP_BITS-1:0] factor = (STATIONARY != 0) ? below : top;

    wire signed [SUM_BITS-1:0] left_value, factor_value;
    generate
        if (SIGN_MAGNITUDE != 0) begin : magnitudes
            wire signed [SUM_BITS-1:0] left_magnitude = {{(SUM_BITS - LEFT_BITS + 1) {1'b0}}, left[LEFT_BITS-2:0]};
            wire signed [SUM_BITS-1:0] factor_magnitude = {{(SUM_BITS - TOP_BITS + 1) {1'b0}}, factor[TOP_BITS-2:0]};
            assign left_value = left[LEFT_BITS-1] ? -left_magnitude : left_magnitude;
            assign factor_value = factor[TOP_BITS-1] ? -factor_magnitude : factor_magnitude;
        end else begin : complements
            assign left_value = {{(SUM_BITS - LEFT_BITS) {left[LEFT_BITS-1]}}, left};
            assign factor_value = {{(SUM_BITS - TOP_BITS) {factor[TOP_BITS-1]}}, factor};
        end
    endgenerate

    assign taken = left_valid & (STATIONARY != 0 || top_valid);
    assign sum_next = ((STATIONARY != 0) ? sum_below : sum) + left_value * factor_value;

    always @(posedge clk) begin
        if (reset) begin
            right_valid <= 1'b0;
            right <= {LEFT_BITS{1'b0}};
            below_valid <= 1'b0;
            below <= {TOP_BITS{1'b0}};
            sum <= {SUM_BITS{1'b0}};
        end else begin
            right_valid <= left_valid & right_used;
            below_valid <= top_taken & below_used;
            if (left_valid) right <= left;
            if (top_taken) below <= top;
            if (taken) sum <= sum_next;
            else if (drain) sum <= sum_below;
        end
    end
endmodule
