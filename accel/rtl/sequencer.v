// Runs a layer fold by fold: column folds outside, row folds inside, one phase after the other, nothing hidden.
//
// STATIONARY 0: stream until the PE that is last (bottom right of those used) has taken its last operand, then let the used
//   rows leave at the top, one a cycle.
// STATIONARY 1: shift in one word a used row, then stream until the top right PE used has taken its last operand.
// No length is computed here: the end of a phase is seen, in `taken`, or is the last of the rows that are shifted.
module sequencer #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter STATIONARY = 0
) (
    input wire clk,
    input wire reset,
    input wire start,
    input wire [31:0] row_count,  // operands that stand in rows, in columns; operands streamed a fold
    input wire [31:0] col_count,
    input wire [31:0] steps,
    input wire [ROWS*COLS-1:0] taken,
    output wire busy,
    output wire load,
    output wire stream,
    output wire drain,
    output reg [31:0] row_base,  // the operand in row 0, in column 0
    output reg [31:0] col_base,
    output reg [31:0] step,  // cycles since the phase began
    output wire [31:0] used_rows,
    output wire [31:0] used_cols,
    output wire [ROWS-1:0] row_used,
    output wire [COLS-1:0] col_used,
    output wire first_row_fold,
    output wire last_row_fold
);
    localparam [1:0] IDLE = 2'd0, LOAD = 2'd1, STREAM = 2'd2, DRAIN = 2'd3;
    localparam [1:0] FIRST = (STATIONARY != 0) ? LOAD : STREAM;
    reg [1:0] phase;
    reg [31:0] arrived;  // operands that the last PE has taken in this fold

    wire [31:0] rows_left = row_count - row_base;
    wire [31:0] cols_left = col_count - col_base;
    assign used_rows = (rows_left < ROWS) ? rows_left : ROWS;
    assign used_cols = (cols_left < COLS) ? cols_left : COLS;
    assign first_row_fold = (row_base == 32'd0);
    assign last_row_fold = (rows_left <= ROWS);
    assign busy = (phase != IDLE);
    assign load = (phase == LOAD);
    assign stream = (phase == STREAM);
    assign drain = (phase == DRAIN);

    genvar i, j;
    generate
        for (i = 0; i < ROWS; i = i + 1) begin : rows
            assign row_used[i] = (i < used_rows);
        end
        for (j = 0; j < COLS; j = j + 1) begin : cols
            assign col_used[j] = (j < used_cols);
        end
    endgenerate

    wire [31:0] last_row = (STATIONARY != 0) ? 32'd0 : used_rows - 32'd1;
    wire last_takes = stream & taken[last_row*COLS+used_cols-1];
    wire streamed = last_takes & (arrived + 32'd1 == steps);
    wire last_shift = (step + 32'd1 == used_rows);
    wire fold_done = (STATIONARY != 0) ? streamed : (drain & last_shift);

    always @(posedge clk) begin
        if (reset) begin
            phase <= IDLE;
            row_base <= 32'd0;
            col_base <= 32'd0;
            step <= 32'd0;
            arrived <= 32'd0;
        end else begin
            step <= step + 32'd1;
            if (last_takes) arrived <= arrived + 32'd1;
            if (phase == IDLE) begin
                step <= 32'd0;
                if (start) phase <= FIRST;
            end else if (fold_done) begin
                step <= 32'd0;
                arrived <= 32'd0;
                if (!last_row_fold) begin
                    row_base <= row_base + ROWS;
                    phase <= FIRST;
                end else begin
                    row_base <= 32'd0;
                    col_base <= col_base + COLS;
                    phase <= (cols_left <= COLS) ? IDLE : FIRST;
                end
            end else if (load & last_shift) begin
                step <= 32'd0;
                phase <= STREAM;
            end else if (streamed) begin
                step <= 32'd0;
                arrived <= 32'd0;
                phase <= DRAIN;
            end
        end
    end
endmodule
