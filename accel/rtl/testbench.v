// Runs one layer and prints what came out and when: see README.md.
//
// left.hex: row_count x steps words, row operand by row operand. top.hex: col_count x steps words, column operand by column
// operand (STATIONARY 0), or row_count x col_count words, row by row (STATIONARY 1). Wires carry x when they are not valid.
module testbench #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter LEFT_BITS = 8,
    parameter TOP_BITS = 8,
    parameter SUM_BITS = 32,
    parameter STATIONARY = 0,
    parameter SIGN_MAGNITUDE = 0,
    parameter DEPTH = 65536,
    parameter TIMEOUT = 1000000
) ();
    reg clk, reset, start, counting;
    reg [31:0] row_count, col_count, steps;
    reg [8*256-1:0] left_file, top_file;
    reg [LEFT_BITS-1:0] left_memory[0:DEPTH-1];
    reg [TOP_BITS-1:0] top_memory[0:DEPTH-1];
    integer cycles, products, left_flips, top_flips, left_port_flips, top_port_flips;

    wire busy, load, stream, drain, first_row_fold, last_row_fold;
    wire [31:0] row_base, col_base, step, used_rows, used_cols;
    wire [ROWS-1:0] row_used, left_valid;
    wire [COLS-1:0] col_used, top_valid;
    wire [ROWS*COLS-1:0] taken;
    wire [ROWS*LEFT_BITS-1:0] left;
    wire [COLS*TOP_BITS-1:0] top;
    wire [COLS*SUM_BITS-1:0] sums, sums_next;

    sequencer #(.ROWS(ROWS), .COLS(COLS), .STATIONARY(STATIONARY)) control (
        .clk(clk), .reset(reset), .start(start),
        .row_count(row_count), .col_count(col_count), .steps(steps), .taken(taken),
        .busy(busy), .load(load), .stream(stream), .drain(drain),
        .row_base(row_base), .col_base(col_base), .step(step),
        .used_rows(used_rows), .used_cols(used_cols), .row_used(row_used), .col_used(col_used),
        .first_row_fold(first_row_fold), .last_row_fold(last_row_fold)
    );
    array #(
        .ROWS(ROWS), .COLS(COLS), .LEFT_BITS(LEFT_BITS), .TOP_BITS(TOP_BITS), .SUM_BITS(SUM_BITS),
        .STATIONARY(STATIONARY), .SIGN_MAGNITUDE(SIGN_MAGNITUDE)
    ) dut (
        .clk(clk), .reset(reset), .load(load), .drain(drain), .row_used(row_used), .col_used(col_used),
        .left_valid(left_valid), .left(left), .top_valid(top_valid), .top(top),
        .taken(taken), .sums(sums), .sums_next(sums_next)
    );

    // The edges: where a word enters in which cycle. Left operands meet the sums of their column on the way up when the
    // bottom row used begins (STATIONARY), or the top operands on the way down when the top row begins.
    genvar i, j;
    generate
        for (i = 0; i < ROWS; i = i + 1) begin : west
            wire [31:0] delay = (STATIONARY != 0) ? used_rows - 32'd1 - i : i;
            wire [31:0] now = step - delay;
            assign left_valid[i] = stream & row_used[i] & (step >= delay) & (now < steps);
            assign left[i*LEFT_BITS+:LEFT_BITS] =
                left_valid[i] ? left_memory[(row_base+i)*steps+now] : {LEFT_BITS{1'bx}};
        end
        for (j = 0; j < COLS; j = j + 1) begin : north
            wire [31:0] now = step - j;
            wire [31:0] row = row_base + used_rows - 32'd1 - step;  // the bottom row's word goes in first
            wire [31:0] address = (STATIONARY != 0) ? row * col_count + col_base + j : (col_base + j) * steps + now;
            assign top_valid[j] =
                col_used[j] & ((STATIONARY != 0) ? load : stream & (step >= j) & (now < steps));
            assign top[j*TOP_BITS+:TOP_BITS] = top_valid[j] ? top_memory[address] : {TOP_BITS{1'bx}};
        end
    endgenerate

    // Results, as they leave the top edge: "out <column operand> <row operand, or streamed operand> <value> <cycle>".
    generate
        for (j = 0; j < COLS; j = j + 1) begin : exits
            wire signed [SUM_BITS-1:0] sum = sums[j*SUM_BITS+:SUM_BITS];
            if (STATIONARY != 0) begin : accumulated
                wire [31:0] arrived;
                wire signed [SUM_BITS-1:0] total;
                accumulator #(.SUM_BITS(SUM_BITS), .DEPTH(DEPTH)) edge_sum (
                    .clk(clk), .rewind(reset | load), .first(first_row_fold), .valid(taken[j]),
                    .sum(sums_next[j*SUM_BITS+:SUM_BITS]), .arrived(arrived), .total(total)
                );
                always @(posedge clk)
                    if (taken[j] & last_row_fold & ~reset)
                        $display("out %0d %0d %0d %0d", col_base + j, arrived, total, cycles);
            end else begin : drained
                always @(posedge clk)
                    if (drain & col_used[j]) $display("out %0d %0d %0d %0d", col_base + j, row_base + step, sum, cycles);
            end
        end
    endgenerate

    // Flips: every change of an operand register, seen on the register itself.
    function integer ones;
        input [63:0] word;
        integer bit_index;
        begin
            ones = 0;
            for (bit_index = 0; bit_index < 64; bit_index = bit_index + 1) ones = ones + word[bit_index];
        end
    endfunction
    generate
        for (i = 0; i < ROWS; i = i + 1) begin : watch_row
            for (j = 0; j < COLS; j = j + 1) begin : watch
                wire [LEFT_BITS-1:0] left_register = dut.row[i].col[j].unit.right;
                wire [TOP_BITS-1:0] top_register = dut.row[i].col[j].unit.below;
                reg [LEFT_BITS-1:0] left_before;
                reg [TOP_BITS-1:0] top_before;
                initial left_before = {LEFT_BITS{1'b0}};
                initial top_before = {TOP_BITS{1'b0}};
                always @(left_register)
                    if (counting) begin
                        left_flips = left_flips + ones(left_register ^ left_before);
                        if (j == 0) left_port_flips = left_port_flips + ones(left_register ^ left_before);
                        left_before = left_register;
                    end
                always @(posedge clk) if (taken[i*COLS+j] & ~reset) products = products + 1;
                always @(top_register)
                    if (counting) begin
                        top_flips = top_flips + ones(top_register ^ top_before);
                        if (i == 0) top_port_flips = top_port_flips + ones(top_register ^ top_before);
                        top_before = top_register;
                    end
            end
        end
    endgenerate

    always #5 clk = ~clk;
    always @(posedge clk) if (busy) cycles <= cycles + 1;

    initial begin
        cycles = 0;
        products = 0;
        left_flips = 0;
        top_flips = 0;
        left_port_flips = 0;
        top_port_flips = 0;
        clk = 1'b0;
        reset = 1'b1;
        start = 1'b0;
        counting = 1'b0;
        if (!$value$plusargs("rows=%d", row_count) || !$value$plusargs("cols=%d", col_count)
            || !$value$plusargs("steps=%d", steps) || !$value$plusargs("left=%s", left_file)
            || !$value$plusargs("top=%s", top_file)) begin
            $display("error: give +rows=N +cols=N +steps=N +left=FILE +top=FILE");
            $finish;
        end
        $readmemh(left_file, left_memory, 0, row_count * steps - 1);
        $readmemh(top_file, top_memory, 0, col_count * ((STATIONARY != 0) ? row_count : steps) - 1);
        repeat (2) @(negedge clk);
        reset = 1'b0;
        counting = 1'b1;
        start = 1'b1;
        @(negedge clk);
        start = 1'b0;
        while (busy && cycles < TIMEOUT) @(negedge clk);
        if (busy) $display("error: still busy after %0d cycles", cycles);
        $display("cycles %0d", cycles);
        $display("products %0d", products);
        $display("left_flips %0d", left_flips);
        $display("top_flips %0d", top_flips);
        $display("left_port_flips %0d", left_port_flips);
        $display("top_port_flips %0d", top_port_flips);
        $finish;
    end
endmodule
