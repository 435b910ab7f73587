// What all kernels of this crate share: the parameters of a dispatch, the tables of a call, and numbers by their bits.
// `Params` is `fairlayer::params::Params`; the offsets into `tables` are words.

struct Params {
    opaque_zero: u32,
    count: u32,
    columns: u32,
    most_columns: u32,
    list_at: u32,
    problems_at: u32,
    cells: u32,
    rows: u32,
    spreads: u32,
    contrasts: u32,
    dense: u32,
    components: u32,
    features: u32,
    strata: u32,
    features_at: u32,
    rows_at: u32,
    spreads_at: u32,
    contrasts_at: u32,
    components_at: u32,
    levels_at: u32,
    levels_stride: u32,
    lower_at: u32,
    upper_at: u32,
    bounds_stride: u32,
    warm_at: u32,
    warm_stride: u32,
    flags: u32,
    lo: u32,
    hi: u32,
    z_at: u32,
    g_at: u32,
    cells_at: u32,
    control_at: u32,
    weights_at: u32,
    weights_low_at: u32,
    labels_at: u32,
    labels_low_at: u32,
    coefficients_at: u32,
    coefficients_low_at: u32,
    lo_at: u32,
    hi_at: u32,
    max_iterations: u32,
    tolerance: f32,
    tolerance_rest: f32,
    unit_roundoff: f32,
    totals_stride: u32,
    results_stride: u32,
    wanted: u32,
    link: u32,
    last_link: u32,
    admm_at: u32,
    search_passes: u32,
    tiles: u32,
    larges: u32,
    large_links: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tables: array<u32>;

// Bits of `Params::flags`.
const SHARED_CELLS = 1u;
const SHARED_CONTROL = 2u;
const SHARED_WEIGHTS = 4u;
const SHARED_LABELS = 8u;
const SHARED_LO = 16u;
const SHARED_HI = 32u;
const GIVEN_CELLS = 64u;
const ELEMENT_LO = 128u;
const ELEMENT_HI = 256u;
const HAS_RATIO = 512u;
const RELAX = 1024u;
const HAS_WEIGHTS = 2048u;
const SHARED_COEFFICIENTS = 4096u;

// Bits of `Params::wanted`.
const WANT_BOUNDS = 1u;
const WANT_WEIGHTS = 2u;
const WANT_LABELS = 4u;
const WANT_COEFFICIENTS = 8u;

const MAX_CELLS = 32u;
const MAX_ROWS = 32u;
const NONE = 0xffffffffu;

// Values of `Status`, and two more: left for the next kernel.
const STATUS_SOLVED = 0u;
const STATUS_ITERATION_LIMIT = 1u;
const STATUS_INFEASIBLE = 2u;
const STATUS_BAD_NUMBER = 3u;
const STATUS_RELAXED = 4u;
const STATUS_HANDED_OVER = 5u;
// Begun by `cells_newton`, which goes on in its next dispatch.
const STATUS_GOING_ON = 6u;

// Words of a problem's totals, before those of its cells; and of a cell.
const TOTALS_HEAD = 4u;
const TOTALS_CELL = 9u;
// Words of a problem's results, before its multipliers.
const RESULTS_HEAD = 8u;

// Elements whose clamp state shares one word.
const CLAMP_LANES = 16u;

// The problem that this workgroup has in hand: its number, its first element, how many it has, its place in `order`, and the
// passes that a kernel of a chain does before it leaves it for the next.
var<private> problem: u32;
var<private> first: u32;
var<private> n: u32;
var<private> order_at: u32;
var<private> passes_of_link: u32;
// The elements of it that this workgroup does, from and up to but without; and the most that any workgroup does of it.
var<private> part_first: u32;
var<private> part_end: u32;
var<private> part_room: u32;

var<private> loaded_zero: u32;

// A zero that no compiler can see through: what passes by it is not reassociated.
fn opaque_zero() -> u32 {
    return loaded_zero;
}

fn has(flag: u32) -> bool {
    return (params.flags & flag) != 0u;
}

// Whether a problem that ended so has an answer.
fn is_answer(status: u32) -> bool {
    return status == STATUS_SOLVED || status == STATUS_RELAXED;
}

// Takes up a problem.
fn take(index: u32) {
    loaded_zero = params.opaque_zero;
    problem = index;
    first = tables[params.problems_at + 4u * problem];
    n = tables[params.problems_at + 4u * problem + 1u];
    order_at = tables[params.problems_at + 4u * problem + 2u];
    passes_of_link = tables[params.problems_at + 4u * problem + 3u];
    part_first = 0u;
    part_end = n;
    part_room = n;
}

// Whether there is a problem for this workgroup in the dispatch's list, which is then taken up.
fn take_up(group: vec3<u32>) -> bool {
    let index = group.y * params.columns + group.x;
    if index >= params.count {
        return false;
    }
    take(tables[params.list_at + index]);
    return true;
}

// The index of element `i` in an array that is shared by the problems, or not.
fn place(i: u32, shared_flag: u32) -> u32 {
    return select(first, 0u, has(shared_flag)) + i;
}

fn pair_at(at: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(tables[at]), bitcast<f32>(tables[at + 1u]));
}

// The masks of cells of a row's first and second mean.
fn row_plus(row: u32) -> u32 {
    return tables[params.rows_at + 4u * row];
}

fn row_minus(row: u32) -> u32 {
    return tables[params.rows_at + 4u * row + 1u];
}

// The row's spread, `NONE` for a contrast.
fn row_spread(row: u32) -> u32 {
    return tables[params.rows_at + 4u * row + 2u];
}

fn row_component(row: u32) -> u32 {
    return tables[params.rows_at + 4u * row + 3u];
}

// The rows of a spread: from, and up to but without.
fn spread_first(spread: u32) -> u32 {
    return tables[params.spreads_at + 4u * spread];
}

fn spread_end(spread: u32) -> u32 {
    return tables[params.spreads_at + 4u * spread + 1u];
}

fn spread_is_ratio(spread: u32) -> bool {
    return tables[params.spreads_at + 4u * spread + 2u] != 0u;
}

// The level (epsilon or ratio) of a spread in the present problem.
fn level(spread: u32) -> vec2<f32> {
    return pair_at(params.levels_at + problem * params.levels_stride + 2u * spread);
}

// The bits of an f32 whose exponent is that of infinities and NaN.
fn is_special(bits: u32) -> bool {
    return (bits & 0x7f800000u) == 0x7f800000u;
}

fn is_nan(bits: u32) -> bool {
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

// Numbers as integers in the same order; both zeros are 0. (Comparisons of f32 may flush denormals, and know no infinity.)
fn key(bits: u32) -> i32 {
    let magnitude = i32(bits & 0x7fffffffu);
    return select(magnitude, -magnitude, (bits >> 31u) != 0u);
}

// The smallest e with |x| < 2^e, within what powers of two can be divided by.
fn exponent_above(bits: u32) -> i32 {
    return clamp(i32((bits >> 23u) & 0xffu) - 126, -100, 128);
}

// 2^e for -126 <= e <= 127.
fn power_of_two(e: i32) -> f32 {
    return bitcast<f32>(u32(e + 127) << 23u);
}

// The rows that are no spread's: contrasts, then those with a coefficient for every sample.
fn bounded_rows() -> u32 {
    return params.contrasts + params.dense;
}

// The number of a row among those, if it is one.
fn row_contrast(row: u32) -> u32 {
    return row - (params.rows - bounded_rows());
}

fn contrast_scale(contrast: u32) -> vec2<f32> {
    return pair_at(params.contrasts_at + 4u * contrast);
}

fn contrast_residual(contrast: u32) -> bool {
    return tables[params.contrasts_at + 4u * contrast + 2u] != 0u;
}

// Whether a row is about y - label.
fn row_is_residual(row: u32) -> bool {
    let is_contrast = row_spread(row) == NONE && row_contrast(row) < params.contrasts;
    return is_contrast && contrast_residual(select(0u, row_contrast(row), is_contrast));
}

// The bounds of a bounded row in the present problem; infinite ones by their bits.
fn row_lower(contrast: u32) -> vec2<f32> {
    return pair_at(params.lower_at + problem * params.bounds_stride + 2u * contrast);
}

fn row_upper(contrast: u32) -> vec2<f32> {
    return pair_at(params.upper_at + problem * params.bounds_stride + 2u * contrast);
}

// Whether `dense_admm` goes first, and Newton starts where that ends.
fn follows_admm() -> bool {
    return params.admm_at != NONE;
}

// The multiplier of a row to start from, as the caller gave it.
fn has_warm_start() -> bool {
    return params.warm_at != NONE || follows_admm();
}

fn start_of(row: u32) -> vec2<f32> {
    return pair_at(params.warm_at + problem * params.warm_stride + 2u * row);
}
