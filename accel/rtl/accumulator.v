// The accumulator of one column at the top edge: adds up the partial sums of the row folds, in the order they arrive.
module accumulator #(
    parameter SUM_BITS = 32,
    parameter DEPTH = 256
) (
    input wire clk,
    input wire rewind,  // before a fold: the next sum is that of the first streamed operand
    input wire first,  // first row fold: start from zero
    input wire valid,
    input wire signed [SUM_BITS-1:0] sum,
    output reg [31:0] arrived,
    output wire signed [SUM_BITS-1:0] total
);
    reg signed [SUM_BITS-1:0] memory[0:DEPTH-1];
    assign total = first ? sum : memory[arrived] + sum;

    always @(posedge clk) begin
        if (rewind) arrived <= 32'd0;
        else if (valid) begin
            memory[arrived] <= total;
            arrived <= arrived + 32'd1;
        end
    end
endmodule
