// ROWS x COLS processing elements. Left operands enter at column 0, top operands at row 0, sums leave at row 0.
//
// A fold uses the PEs whose row and column are marked in row_used and col_used (from the top left). Words of several rows
// or columns stand side by side in one vector, the first in the lowest bits.
module array #(
    parameter ROWS = 4,
    parameter COLS = 4,
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
    input wire [ROWS-1:0] row_used,
    input wire [COLS-1:0] col_used,
    input wire [ROWS-1:0] left_valid,
    input wire [ROWS*LEFT_BITS-1:0] left,
    input wire [COLS-1:0] top_valid,
    input wire [COLS*TOP_BITS-1:0] top,
    output wire [ROWS*COLS-1:0] taken,  // PEs that multiply in this cycle, row by row
    output wire [COLS*SUM_BITS-1:0] sums,  // at the top: the sums that stand in row 0 (drain) ...
    output wire [COLS*SUM_BITS-1:0] sums_next  // ... and those that row 0 makes in this cycle (STATIONARY)
);
    genvar i, j;
    generate
        for (i = 0; i < ROWS; i = i + 1) begin : row
            for (j = 0; j < COLS; j = j + 1) begin : col
                wire from_left_valid, from_top_valid, right_used, below_used, right_valid, below_valid;
                wire [LEFT_BITS-1:0] from_left, right;
                wire [TOP_BITS-1:0] from_top, below;
                wire signed [SUM_BITS-1:0] sum_below, sum, sum_next;

                if (j == 0) begin : west
                    assign from_left_valid = left_valid[i];
                    assign from_left = left[i*LEFT_BITS+:LEFT_BITS];
                end else begin : inner_west
                    assign from_left_valid = row[i].col[j-1].right_valid;
                    assign from_left = row[i].col[j-1].right;
                end
                if (i == 0) begin : north
                    assign from_top_valid = top_valid[j];
                    assign from_top = top[j*TOP_BITS+:TOP_BITS];
                    assign sums[j*SUM_BITS+:SUM_BITS] = sum;
                    assign sums_next[j*SUM_BITS+:SUM_BITS] = sum_next;
                end else begin : inner_north
                    assign from_top_valid = row[i-1].col[j].below_valid;
                    assign from_top = row[i-1].col[j].below;
                end
                if (j == COLS - 1) begin : east
                    assign right_used = 1'b0;
                end else begin : inner_east
                    assign right_used = col_used[j+1];
                end
                if (i == ROWS - 1) begin : south
                    assign below_used = 1'b0;
                    assign sum_below = {SUM_BITS{1'b0}};
                end else begin : inner_south
                    assign below_used = row_used[i+1];
                    assign sum_below = row_used[i+1] ? row[i+1].col[j].sum : {SUM_BITS{1'b0}};
                end

                pe #(
                    .LEFT_BITS(LEFT_BITS),
                    .TOP_BITS(TOP_BITS),
                    .SUM_BITS(SUM_BITS),
                    .STATIONARY(STATIONARY),
                    .SIGN_MAGNITUDE(SIGN_MAGNITUDE)
                ) unit (
                    .clk(clk),
                    .reset(reset),
                    .load(load),
                    .drain(drain),
                    .right_used(right_used),
                    .below_used(below_used),
                    .left_valid(from_left_valid),
                    .left(from_left),
                    .top_valid(from_top_valid),
                    .top(from_top),
                    .sum_below(sum_below),
                    .right_valid(right_valid),
                    .right(right),
                    .below_valid(below_valid),
                    .below(below),
                    .sum(sum),
                    .sum_next(sum_next),
                    .taken(taken[i*COLS+j])
                );
            end
        end
    endgenerate
endmodule
