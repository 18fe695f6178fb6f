/**
 * The kernels: every loop over parameters, gradients and optimizer state, as WebAssembly SIMD.
 *
 * `createKernels()` gives an instance with a memory of its own. It starts at 64 KiB and grows to what is reserved,
 * so a coordinator can hold one a range. Nothing is ever freed but the whole instance: reserve once, use for ever.
 * V8 sets 10 GB of addresses (not of memory) aside for each, so a process can hold about 12,900.
 *
 *     const kernels = createKernels()
 *     const w = kernels.reserve(4 * count)
 *     const g = kernels.reserve(4 * count)
 *     kernels.floats(w, count).set(parameters)
 *     kernels.floats(g, count).set(gradient)
 *     kernels.sgd(w, g, count, { weight: 1, rate: 0.1 })
 *
 * It promises: the same bytes in give the same bytes out on every machine (fixed order, no relaxed SIMD, every
 * operation rounded to f32 where it is written as f32), except for which NaN a NaN is. Any count is handled exactly:
 * nothing past it is read or written. Pointers are byte addresses within the instance's memory; a vector of n
 * floats takes 4n bytes. Vectors of one call do not overlap.
 */
import { wasm } from './wasm.ts'

/** Floats that share a scale in an int8 encoding. */
export const INT8_BLOCK = 256

/** Steps between flushes: with any decay of 0.76 or more, 2^-100 does not shrink to a subnormal float in so many. */
export const FLUSH_EVERY = 64

const PAGE_BYTES = 65536

/** Bytes of an int8 encoding: a f32 scale a block, then a signed byte a float. */
export function int8Size(count: number): number {
  return 4 * Math.ceil(count / INT8_BLOCK) + count
}

interface SgdScalars {
  /** Multiplies the gradient before anything else: a staleness weight, 1/n of a mean. */
  readonly weight: number
  readonly rate: number
}

interface MomentumScalars extends SgdScalars {
  readonly momentum: number
}

interface AdagradScalars extends SgdScalars {
  readonly epsilon: number
}

interface AdamScalars extends SgdScalars {
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
  /** Decoupled (AdamW); 0 is Adam. */
  readonly weightDecay: number
  /** 1/(1 − β₁ᵗ) and 1/(1 − β₂ᵗ) at step t = 1, 2, … Not by Math.pow, which differs between engines. */
  readonly correction1: number
  readonly correction2: number
}

/** A generator of shared/random.ts. */
interface DrawKey {
  readonly key0: number
  readonly key1: number
}

/** `lambda` is for the mean gradient of a minibatch; g is the sum of `minibatches` of them. */
interface CompensationScalars {
  readonly lambda: number
  readonly minibatches: number
}

interface AdaptiveCompensationScalars extends CompensationScalars {
  readonly decay: number
  readonly epsilon: number
}

/** What the module exports; the order of the arguments is that of shared/kernels/assembly. */
interface Exports {
  readonly memory: WebAssembly.Memory
  readonly heapBase: WebAssembly.Global
  decodeF16(source: number, count: number, target: number): void
  decodeInt8(source: number, count: number, target: number): void
  encodeF16(source: number, count: number, target: number): void
  encodeInt8(source: number, count: number, target: number): void
  sumSquaresF16(source: number, count: number): number
  sumSquaresInt8(source: number, count: number): number
  sumSquares(x: number, count: number): number
  sumAbs(x: number, count: number): number
  dot(x: number, y: number, count: number): number
  addSquares(x: number, count: number, sums: number): void
  multiplyEach(x: number, count: number, factors: number): void
  carry(y: number, e: number, x: number, count: number, a: number): void
  multiply(y: number, x: number, count: number): void
  shrink(x: number, count: number, t: number): void
  accumulate(y: number, x: number, count: number, a: number): void
  scale(x: number, count: number, a: number): void
  fill(x: number, count: number, value: number): void
  flush(x: number, count: number): void
  copy(source: number, count: number, target: number): void
  sgd(w: number, g: number, count: number, weight: number, rate: number): void
  momentum(w: number, g: number, m: number, count: number, weight: number, rate: number, mu: number): void
  adagrad(w: number, g: number, sum: number, count: number, weight: number, rate: number, epsilon: number): void
  adam(w: number, g: number, m: number, v: number, count: number, ...scalars: number[]): void
  compensate(g: number, w: number, base: number, count: number, lambda: number): void
  compensateAdaptive(g: number, w: number, base: number, ms: number, count: number, ...scalars: number[]): void
  words(key0: number, key1: number, first: number, count: number, target: number): void
  uniforms(key0: number, key1: number, first: number, count: number, target: number): void
  masks(key0: number, key1: number, first: number, count: number, target: number, below: number, keep: number): void
}

let compiled: WebAssembly.Module | undefined

/** Once a process: instances share the compiled code. */
function compile(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(Uint8Array.from(atob(wasm), (character) => character.charCodeAt(0)))
  return compiled
}

export class Kernels {
  private readonly memory: WebAssembly.Memory
  private readonly exports: Exports
  /** First free byte. */
  private free: number

  constructor(instance: WebAssembly.Instance) {
    this.exports = instance.exports as unknown as Exports
    this.memory = this.exports.memory
    this.free = this.exports.heapBase.value
  }

  /**
   * A zeroed piece of this instance's memory, aligned to 16 bytes. Views taken before may be detached: take them anew.
   */
  reserve(sizeBytes: number): number {
    const pointer = Math.ceil(this.free / 16) * 16
    const missing = pointer + sizeBytes - this.memory.buffer.byteLength
    if (missing > 0) this.memory.grow(Math.ceil(missing / PAGE_BYTES))
    this.free = pointer + sizeBytes
    return pointer
  }

  /** A view, valid until the next `reserve`. */
  floats(pointer: number, count: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.memory.buffer as ArrayBuffer, pointer, count)
  }

  /** A view, valid until the next `reserve`; the pointer is a multiple of 8. */
  doubles(pointer: number, count: number): Float64Array<ArrayBuffer> {
    return new Float64Array(this.memory.buffer as ArrayBuffer, pointer, count)
  }

  /** A view, valid until the next `reserve`. */
  bytes(pointer: number, length: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer as ArrayBuffer, pointer, length)
  }

  /** IEEE 754 binary16, to the nearest, ties to even; subnormals kept; from 65520 on ±∞. */
  encodeF16(source: number, count: number, target: number): void {
    this.exports.encodeF16(source, count, target)
  }

  /** Exact. */
  decodeF16(source: number, count: number, target: number): void {
    this.exports.decodeF16(source, count, target)
  }

  /**
   * In blocks of INT8_BLOCK floats: scale s = max|x|/127 in f32, q = x/s to the nearest integer (ties to even).
   * Then |x − q·s| ≤ s·(1/2 + 2⁻¹⁶) for every finite x: half a step, and the f32 rounding of x/s (at most 127·2⁻²⁴
   * steps) and of the decoder's q·s (as much again). s is kept within [2⁻¹²⁶, the largest for which 127·s is finite],
   * which leaves the bound as it is. A block of zeros has scale 0. A block with a NaN or an infinity decodes to
   * NaN throughout.
   */
  encodeInt8(source: number, count: number, target: number): void {
    this.exports.encodeInt8(source, count, target)
  }

  /** q·s, rounded to f32 once. Whatever the bytes are, it stays within `count`. */
  decodeInt8(source: number, count: number, target: number): void {
    this.exports.decodeInt8(source, count, target)
  }

  /**
   * Σx² of what the bytes decode to, in f64, without decoding them to memory: the finite-and-norm check of an
   * untrusted update. NaN or ∞ exactly when a decoded value is. The first two are the sum of the decoded
   * floats' squares but for f64 rounding; of int8 it is Σ(q·s)² before q·s is rounded, so within 2⁻²³ of it.
   */
  sumSquares(source: number, count: number): number {
    return this.exports.sumSquares(source, count)
  }

  sumSquaresF16(source: number, count: number): number {
    return this.exports.sumSquaresF16(source, count)
  }

  sumSquaresInt8(source: number, count: number): number {
    return this.exports.sumSquaresInt8(source, count)
  }

  /** Σx·y in f64: every product is exact, so only the additions round. */
  dot(x: number, y: number, count: number): number {
    return this.exports.dot(x, y, count)
  }

  /** Σ|x| in f64. */
  sumAbs(x: number, count: number): number {
    return this.exports.sumAbs(x, count)
  }

  /**
   * y + e ← y + e + a·x, where y takes the sum rounded to f32 and e, which starts at 0, what the rounding lost. After n
   * terms with a = 1, y + e (one `accumulate` of e) is Σx as if it had been summed with 48 bits and then rounded:
   * |y + e − Σx| ≤ 2⁻²⁴·|Σx| + (n·2⁻²⁴)²·Σ|x| (Ogita, Rump & Oishi 2005, Sum2).
   */
  carry(y: number, e: number, x: number, count: number, a: number): void {
    this.exports.carry(y, e, x, count, a)
  }

  /** sums ← sums + x⊙x in f64, where a square is exact; the sums take 8 bytes each. */
  addSquares(x: number, count: number, sums: number): void {
    this.exports.addSquares(x, count, sums)
  }

  /** x ← x⊙factors, which are f64 of 8 bytes each; the product is rounded to f32 once. */
  multiplyEach(x: number, count: number, factors: number): void {
    this.exports.multiplyEach(x, count, factors)
  }

  /** y ← y⊙x */
  multiply(y: number, x: number, count: number): void {
    this.exports.multiply(y, x, count)
  }

  /** x ← sign(x)·max(0, |x| − t): the proximal step of t·‖x‖₁. */
  shrink(x: number, count: number, t: number): void {
    this.exports.shrink(x, count, t)
  }

  /** y ← y + a·x */
  accumulate(y: number, x: number, count: number, a: number): void {
    this.exports.accumulate(y, x, count, a)
  }

  /** x ← a·x */
  scale(x: number, count: number, a: number): void {
    this.exports.scale(x, count, a)
  }

  /** x ← value */
  fill(x: number, count: number, value: number): void {
    this.exports.fill(x, count, value)
  }

  /**
   * x ← 0 where |x| < 2^-100. Do this to the running means of momentum and adam every FLUSH_EVERY steps (counted
   * in the rule's state, so that a replay does it at the same steps). Where a gradient has died (a ReLU that is
   * never active, a pixel that is always black) a mean decays into the subnormal floats within a thousand steps, stays
   * there for ever, because 0.9·4 units round to 4, and slows each step down.
   */
  flush(x: number, count: number): void {
    this.exports.flush(x, count)
  }

  copy(source: number, count: number, target: number): void {
    this.exports.copy(source, count, target)
  }

  /** w ← w − rate·(weight·g) */
  sgd(w: number, g: number, count: number, { weight, rate }: SgdScalars): void {
    this.exports.sgd(w, g, count, weight, rate)
  }

  /** m ← μ·m + weight·g;  w ← w − rate·m. See `flush`. */
  momentum(w: number, g: number, m: number, count: number, { weight, rate, momentum }: MomentumScalars): void {
    this.exports.momentum(w, g, m, count, weight, rate, momentum)
  }

  /** sum ← sum + (weight·g)²;  w ← w − rate·(weight·g) / (√sum + ε) */
  adagrad(w: number, g: number, sum: number, count: number, { weight, rate, epsilon }: AdagradScalars): void {
    this.exports.adagrad(w, g, sum, count, weight, rate, epsilon)
  }

  /**
   * m ← β₁·m + (1−β₁)·weight·g;  v ← β₂·v + (1−β₂)·(weight·g)²;
   * w ← (1 − rate·weightDecay)·w − rate·correction1·m / (√(correction2·v) + ε)
   *
   * computed as Adam's §2 recommends, with √correction2 taken out of the root: every factor that does not depend on
   * the element is one scalar, computed here in f64 and rounded once. See `flush`.
   */
  adam(w: number, g: number, m: number, v: number, count: number, scalars: AdamScalars): void {
    const { weight, rate, beta1, beta2, epsilon, weightDecay, correction1, correction2 } = scalars
    const rootCorrection = Math.sqrt(correction2)
    this.exports.adam(
      w,
      g,
      m,
      v,
      count,
      beta1,
      (1 - beta1) * weight,
      beta2,
      (1 - beta2) * weight * weight,
      (rate * correction1) / rootCorrection,
      epsilon / rootCorrection,
      1 - rate * weightDecay,
    )
  }

  /**
   * Delay compensation with a constant λ (DC-ASGD-c): g ← g + n·λ·ḡ⊙ḡ⊙(w − base), where ḡ = g/n is the mean gradient
   * of the n minibatches. As g = n·ḡ this is g·(1 + (λ/n)·g⊙(w − base)), so nothing is divided and multiplied back.
   * Where w is base, g keeps its bits; w and base may be the same vector.
   */
  compensate(g: number, w: number, base: number, count: number, { lambda, minibatches }: CompensationScalars): void {
    this.exports.compensate(g, w, base, count, lambda / minibatches)
  }

  /**
   * The same with an adaptive λ (DC-ASGD-a): ms ← decay·ms + (1−decay)·ḡ⊙ḡ, then λ/√(ms + ε) for λ. See `flush` for ms.
   */
  compensateAdaptive(
    g: number,
    w: number,
    base: number,
    ms: number,
    count: number,
    { lambda, minibatches, decay, epsilon }: AdaptiveCompensationScalars,
  ): void {
    const gain = (1 - decay) / minibatches ** 2
    this.exports.compensateAdaptive(g, w, base, ms, count, lambda / minibatches, decay, gain, epsilon)
  }

  /** Draws `first` … `first` + count - 1 (below 2³²) of the generator with this key, as Random.u32 has them: u32s. */
  words({ key0, key1 }: DrawKey, first: number, count: number, target: number): void {
    this.exports.words(key0, key1, first, count, target)
  }

  /** The same as floats in [0, 1): Random.uniform rounded down to a multiple of 2⁻²⁴, which no rounding makes a 1. */
  uniforms({ key0, key1 }: DrawKey, first: number, count: number, target: number): void {
    this.exports.uniforms(key0, key1, first, count, target)
  }

  /** For the same draws floats: 0 where Random.uniform is below `rate`, in [0, 1), and else `keep`. */
  masks(
    { key0, key1 }: DrawKey,
    first: number,
    count: number,
    target: number,
    { rate, keep }: { readonly rate: number; readonly keep: number },
  ): void {
    // A whole number is below x when it is below x rounded up.
    this.exports.masks(key0, key1, first, count, target, Math.ceil(rate * 0x100000000), keep)
  }
}

export function createKernels(): Kernels {
  return new Kernels(new WebAssembly.Instance(compile()))
}
