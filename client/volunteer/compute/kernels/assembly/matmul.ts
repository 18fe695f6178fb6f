/**
 * Matrix product C = op(A)·op(B) in place on tfjs' heap, for every combination of transposes at the speed of the plain
 * one. Operands are repacked into panels that a register-blocked inner loop reads in order (Goto & van de Geijn,
 * "Anatomy of high-performance matrix multiplication", 2008), and packing is where a transpose disappears.
 *
 * All matrices are row-major float32; addresses are bytes, all other numbers count floats.
 */

/** Rows and columns of C that the inner loop holds in registers: 8 vectors of accumulators. */
const TILE_ROWS: i32 = 4
const TILE_COLUMNS: i32 = 8
/** Depth of a panel: 8 columns × 256 × 4 bytes are 8 KiB, a fraction of any first-level cache. */
const DEPTH: i32 = 256
/** Rows of A packed at a time: with DEPTH 256 KiB, which any second-level cache holds. */
const ROWS: i32 = 256

/** Bytes of scratch memory that `matmul` needs. */
export function scratchBytes(): i32 {
  return 4 * (ROWS * DEPTH + TILE_COLUMNS * DEPTH + TILE_ROWS * TILE_COLUMNS)
}

/**
 * C[m×n] = op(A)[m×k]·op(B)[k×n], or C += with `accumulate`. `bias` is the address of n floats to add to each row, or
 * 0; `lda`, `ldb`, `ldc` are the rows' lengths as stored; `scratch` is aligned to 16 bytes.
 */
export function matmul(
  a: usize,
  lda: i32,
  transposeA: bool,
  b: usize,
  ldb: i32,
  transposeB: bool,
  c: usize,
  ldc: i32,
  m: i32,
  n: i32,
  k: i32,
  accumulate: bool,
  bias: usize,
  scratch: usize,
): void {
  const packedA = scratch
  const packedB = packedA + 4 * ROWS * DEPTH
  const tile = packedB + 4 * TILE_COLUMNS * DEPTH
  for (let i = 0; i < m; i += ROWS) {
    const rows = min(ROWS, m - i)
    for (let p = 0; p === 0 || p < k; p += DEPTH) {
      const depth = min(DEPTH, k - p)
      for (let r = 0; r < rows; r += TILE_ROWS) {
        const to = packedA + <usize>(r * depth) * 4
        if (transposeA) packAcross(to, cell(a, p, lda, i + r), lda, TILE_ROWS, min(TILE_ROWS, rows - r), depth)
        else packAlong(to, cell(a, i + r, lda, p), lda, TILE_ROWS, min(TILE_ROWS, rows - r), depth)
      }
      for (let j = 0; j < n; j += TILE_COLUMNS) {
        const columns = min(TILE_COLUMNS, n - j)
        if (transposeB) packAlong(packedB, cell(b, j, ldb, p), ldb, TILE_COLUMNS, columns, depth)
        else packAcross(packedB, cell(b, p, ldb, j), ldb, TILE_COLUMNS, columns, depth)
        const start: i32 = accumulate || p > 0 ? 1 : bias ? 2 : 0
        const biasAt = bias + <usize>j * 4
        for (let r = 0; r < rows; r += TILE_ROWS) {
          const at = cell(c, i + r, ldc, j)
          if (columns === TILE_COLUMNS && rows - r >= TILE_ROWS) {
            multiply(packedA + <usize>(r * depth) * 4, packedB, depth, at, ldc, start, biasAt)
          } else {
            multiply(packedA + <usize>(r * depth) * 4, packedB, depth, tile, TILE_COLUMNS, 0, 0)
            const last = min(TILE_ROWS, rows - r)
            for (let x = 0; x < last; x++) {
              for (let y = 0; y < columns; y++) {
                const one = cell(at, x, ldc, y)
                let value = load<f32>(tile + <usize>(x * TILE_COLUMNS + y) * 4)
                if (start === 1) value += load<f32>(one)
                else if (start === 2) value += load<f32>(biasAt + <usize>y * 4)
                store<f32>(one, value)
              }
            }
          }
        }
      }
    }
  }
}

/** The address of an element of a row-major matrix. */
function cell(base: usize, row: i32, ld: i32, column: i32): usize {
  return base + ((<usize>row * <usize>ld + <usize>column) << 2)
}

function step(a: v128, b: v128, sum: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b))
}

/** One 4×8 tile of C: `start` 0 sets it, 1 adds to it, 2 begins with the bias. */
function multiply(a: usize, b: usize, depth: i32, c: usize, ldc: i32, start: i32, bias: usize): void {
  let c00 = f32x4.splat(0),
    c01 = c00,
    c10 = c00,
    c11 = c00,
    c20 = c00,
    c21 = c00,
    c30 = c00,
    c31 = c00
  const end = b + <usize>depth * 32
  while (b < end) {
    const b0 = v128.load(b),
      b1 = v128.load(b, 16)
    let x = v128.load_splat<f32>(a)
    c00 = step(x, b0, c00)
    c01 = step(x, b1, c01)
    x = v128.load_splat<f32>(a, 4)
    c10 = step(x, b0, c10)
    c11 = step(x, b1, c11)
    x = v128.load_splat<f32>(a, 8)
    c20 = step(x, b0, c20)
    c21 = step(x, b1, c21)
    x = v128.load_splat<f32>(a, 12)
    c30 = step(x, b0, c30)
    c31 = step(x, b1, c31)
    a += 16
    b += 32
  }
  const row1 = c + <usize>ldc * 4,
    row2 = row1 + <usize>ldc * 4,
    row3 = row2 + <usize>ldc * 4
  if (start === 1) {
    c00 = f32x4.add(c00, v128.load(c))
    c01 = f32x4.add(c01, v128.load(c, 16))
    c10 = f32x4.add(c10, v128.load(row1))
    c11 = f32x4.add(c11, v128.load(row1, 16))
    c20 = f32x4.add(c20, v128.load(row2))
    c21 = f32x4.add(c21, v128.load(row2, 16))
    c30 = f32x4.add(c30, v128.load(row3))
    c31 = f32x4.add(c31, v128.load(row3, 16))
  } else if (start === 2) {
    const b0 = v128.load(bias),
      b1 = v128.load(bias, 16)
    c00 = f32x4.add(c00, b0)
    c01 = f32x4.add(c01, b1)
    c10 = f32x4.add(c10, b0)
    c11 = f32x4.add(c11, b1)
    c20 = f32x4.add(c20, b0)
    c21 = f32x4.add(c21, b1)
    c30 = f32x4.add(c30, b0)
    c31 = f32x4.add(c31, b1)
  }
  v128.store(c, c00)
  v128.store(c, c01, 16)
  v128.store(row1, c10)
  v128.store(row1, c11, 16)
  v128.store(row2, c20)
  v128.store(row2, c21, 16)
  v128.store(row3, c30)
  v128.store(row3, c31, 16)
}

/**
 * Packs `lines` lines that lie along the depth (each `depth` floats in a row, `ld` apart) as [depth][width]; `width`
 * is a multiple of 4, what is missing is zero.
 */
function packAlong(to: usize, from: usize, ld: i32, width: i32, lines: i32, depth: i32): void {
  const pitch = <usize>width * 4
  for (let w = 0; w < width; w += 4) {
    const left = lines - w
    // A line that does not exist is read from the first one, and its zeros are written below.
    const r0 = cell(from, w, ld, 0)
    const s0 = left > 0 ? r0 : from
    const s1 = left > 1 ? r0 + <usize>ld * 4 : s0
    const s2 = left > 2 ? r0 + <usize>ld * 8 : s0
    const s3 = left > 3 ? r0 + <usize>ld * 12 : s0
    let at = to + <usize>w * 4
    let p: usize = 0
    const whole = <usize>(depth & ~3) * 4
    if (left >= 4) {
      for (; p < whole; p += 16) {
        const x0 = v128.load(s0 + p),
          x1 = v128.load(s1 + p),
          x2 = v128.load(s2 + p),
          x3 = v128.load(s3 + p)
        const l0 = v128.shuffle<i32>(x0, x1, 0, 4, 1, 5),
          l1 = v128.shuffle<i32>(x2, x3, 0, 4, 1, 5)
        const h0 = v128.shuffle<i32>(x0, x1, 2, 6, 3, 7),
          h1 = v128.shuffle<i32>(x2, x3, 2, 6, 3, 7)
        v128.store(at, v128.shuffle<i64>(l0, l1, 0, 2))
        v128.store(at + pitch, v128.shuffle<i64>(l0, l1, 1, 3))
        v128.store(at + 2 * pitch, v128.shuffle<i64>(h0, h1, 0, 2))
        v128.store(at + 3 * pitch, v128.shuffle<i64>(h0, h1, 1, 3))
        at += 4 * pitch
      }
    }
    for (; p < <usize>depth * 4; p += 4) {
      store<f32>(at, left > 0 ? load<f32>(s0 + p) : 0)
      store<f32>(at, left > 1 ? load<f32>(s1 + p) : 0, 4)
      store<f32>(at, left > 2 ? load<f32>(s2 + p) : 0, 8)
      store<f32>(at, left > 3 ? load<f32>(s3 + p) : 0, 12)
      at += pitch
    }
  }
}

/**
 * Packs `lines` lines that lie across the depth (one float of each in a row, `ld` from depth to depth) as
 * [depth][width].
 */
function packAcross(to: usize, from: usize, ld: i32, width: i32, lines: i32, depth: i32): void {
  const pitch = <usize>ld * 4
  const end = to + <usize>(depth * width) * 4
  if (lines === width) {
    if (width === 8) {
      for (; to < end; to += 32) {
        v128.store(to, v128.load(from))
        v128.store(to, v128.load(from, 16), 16)
        from += pitch
      }
    } else {
      for (; to < end; to += 16) {
        v128.store(to, v128.load(from))
        from += pitch
      }
    }
    return
  }
  for (; to < end; to += <usize>width * 4) {
    for (let w = 0; w < width; w++) {
      store<f32>(to + <usize>w * 4, w < lines ? load<f32>(from + <usize>w * 4) : 0)
    }
    from += pitch
  }
}
