/**
 * The kernels of shared/kernels/kernels.ts, in AssemblyScript: loops over memory that the caller laid out.
 * They allocate nothing, call nothing outside and use no relaxed SIMD, so the same bytes in give the same bytes
 * out on every machine. Lengths are counts of floats; pointers are byte addresses and need no alignment.
 */
export { decodeF16, decodeInt8, encodeF16, encodeInt8, sumSquaresF16, sumSquaresInt8 } from './codec'
export { addSquares, multiplyEach } from './columns'
export { compensate, compensateAdaptive } from './compensation'
export { masks, uniforms, words } from './draws'
export { adagrad, adam, momentum, sgd } from './rules'
export { accumulate, carry, copy, dot, fill, flush, multiply, scale, shrink, sumAbs, sumSquares } from './vector'

/** The first byte that is free for the caller. */
export const heapBase: usize = __heap_base
