/**
 * A workbench for kernels: vectors put into a kernel's memory with guards around them, samples, and exact comparison.
 */
import fc from 'fast-check'
import { expect } from 'vitest'
import { createKernels, type Kernels } from '../../shared/kernels/kernels.ts'

export const f = Math.fround
export const LEAST_NORMAL = 2 ** -126
export const LARGEST = 3.4028234663852886e38
export const GUARD = 123456.75

/** Every tail, whole blocks of every kind, and one more. */
export const COUNTS = [...Array.from({ length: 41 }, (_, i) => i), 255, 256, 257, 271, 511, 512, 513, 1000, 4099]

/** Any float by its bits: subnormals, infinities and NaN come up often. */
export const anyFloat = fc.float()
export const finite = fc.float({ noNaN: true, noDefaultInfinity: true })
export const ordinary = fc.float({ noNaN: true, min: f(-1e4), max: f(1e4) })
export const vector = (of: fc.Arbitrary<number>, maxLength = 600) =>
  fc.array(of, { maxLength, size: 'max' }).map((values) => Float32Array.from(values))

/** Not random: a spread of magnitudes and both signs, zero among them. */
export function sample(count: number, salt: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    const hash = Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(salt, 0x85ebca6b)
    if (hash % 17 === 0) return 0
    return ((hash >> 8) / 2 ** 23) * 2 ** (hash & 7)
  })
}

export class Workbench {
  readonly kernels: Kernels = createKernels()

  /** A vector between guards; the guards are checked when it is read back. Starts off the 16-byte grid if asked. */
  place(values: Float32Array, shift = 0): { at: number; read: () => Float32Array } {
    const count = values.length
    const base = this.kernels.reserve(4 * (count + 12)) + shift
    this.kernels.floats(base, count + 8).fill(GUARD)
    const at = base + 16
    this.kernels.floats(at, count).set(values)
    return {
      at,
      read: () => {
        const all = this.kernels.floats(base, count + 8)
        for (let i = 0; i < 4; i++) {
          if (all[i] !== GUARD || all[count + 4 + i] !== GUARD)
            throw new Error(`a kernel wrote outside ${count} floats`)
        }
        return all.slice(4, 4 + count)
      },
    }
  }

  /** Bytes between guards. */
  placeBytes(values: Uint8Array): { at: number; read: () => Uint8Array } {
    const base = this.kernels.reserve(values.length + 32)
    this.kernels.bytes(base, values.length + 32).fill(0xa5)
    const at = base + 16
    this.kernels.bytes(at, values.length).set(values)
    return {
      at,
      read: () => {
        const all = this.kernels.bytes(base, values.length + 32)
        const guards = [...all.subarray(0, 16), ...all.subarray(16 + values.length)]
        if (guards.some((byte) => byte !== 0xa5)) throw new Error(`a kernel wrote outside ${values.length} bytes`)
        return all.slice(16, 16 + values.length)
      },
    }
  }
}

/** Equal bits, except that any NaN equals any NaN. */
export function expectSame(actual: Float32Array, expected: Float32Array): void {
  expect(actual.length).toBe(expected.length)
  for (let i = 0; i < expected.length; i++) {
    if (!Object.is(actual[i], expected[i])) {
      throw new Error(`element ${i} of ${expected.length}: expected ${expected[i]}, got ${actual[i]}`)
    }
  }
}
