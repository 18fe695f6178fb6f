/**
 * Codecs: a vector of floats to bytes and back. A payload is the concatenation of its ranges' encodings
 * (layout.ts), so any range can be decoded without the others, straight out of a socket's buffer.
 *
 * All numbers are little endian. f32: 4 bytes a float. f16: 2 bytes a float. int8: in blocks of 256 floats, per
 * range first every block's f32 scale, then a signed byte a float. How exact each is, and that what is not finite
 * stays so, is told and promised in kernels/kernels.ts.
 */
import type { CodecName } from './codec-names.ts'
import { createKernels, INT8_BLOCK, int8Size, type Kernels } from './kernels/kernels.ts'
import { RANGE_FLOATS, ranges } from './layout.ts'

/** One range's encoding; pointers are into the memory of `kernels` and need no alignment. */
export interface Codec {
  readonly name: CodecName
  /** Bytes of a range of `count` floats. */
  encodedSize(count: number): number
  encode(kernels: Kernels, source: number, count: number, target: number): void
  decode(kernels: Kernels, source: number, count: number, target: number): void
  /**
   * Floats `from` to `to` of an encoded range of `count` floats, as an encoding of their own, into `target`. `from` is
   * a multiple of INT8_BLOCK.
   */
  cut(encoded: Uint8Array, count: number, from: number, to: number, target: Uint8Array): void
  /** Σx² of an encoded range without decoding it; NaN or ∞ exactly when it holds a value that is not finite. */
  sumSquares(kernels: Kernels, source: number, count: number): number
}

/** For codecs that say every float by itself, in so many bytes. */
const cutOf = (bytes: number) => (encoded: Uint8Array, _count: number, from: number, to: number, target: Uint8Array) =>
  target.set(encoded.subarray(bytes * from, bytes * to))

export const codecs: Readonly<Record<CodecName, Codec>> = {
  f32: {
    name: 'f32',
    encodedSize: (count) => 4 * count,
    encode: (kernels, source, count, target) => kernels.copy(source, count, target),
    decode: (kernels, source, count, target) => kernels.copy(source, count, target),
    cut: cutOf(4),
    sumSquares: (kernels, source, count) => kernels.sumSquares(source, count),
  },
  f16: {
    name: 'f16',
    encodedSize: (count) => 2 * count,
    encode: (kernels, source, count, target) => kernels.encodeF16(source, count, target),
    decode: (kernels, source, count, target) => kernels.decodeF16(source, count, target),
    cut: cutOf(2),
    sumSquares: (kernels, source, count) => kernels.sumSquaresF16(source, count),
  },
  int8: {
    name: 'int8',
    encodedSize: int8Size,
    encode: (kernels, source, count, target) => kernels.encodeInt8(source, count, target),
    decode: (kernels, source, count, target) => kernels.decodeInt8(source, count, target),
    cut(encoded, count, from, to, target) {
      const scales = int8Size(count) - count
      const first = (4 * from) / INT8_BLOCK
      const length = int8Size(to - from) - (to - from)
      target.set(encoded.subarray(first, first + length))
      target.set(encoded.subarray(scales + from, scales + to), length)
    },
    sumSquares: (kernels, source, count) => kernels.sumSquaresInt8(source, count),
  },
}

/** Bytes of a whole vector's payload. */
export function payloadSize(codec: Codec, floats: number): number {
  return rangeOffset(codec, Math.floor(floats / RANGE_FLOATS)) + codec.encodedSize(floats % RANGE_FLOATS)
}

/** Bytes that hold the encoding of `count` floats by any codec: of one float int8's is the largest. */
export function largestEncoding(count: number): number {
  return Math.max(...Object.values(codecs).map((codec) => codec.encodedSize(count)))
}

/** Where a range's encoding begins in the payload, in bytes. */
export function rangeOffset(codec: Codec, rangeIndex: number): number {
  return rangeIndex * codec.encodedSize(RANGE_FLOATS)
}

interface Scratch {
  readonly kernels: Kernels
  /** One range of floats. */
  readonly decoded: number
  /** One range, encoded by any codec. */
  readonly encoded: number
}

let scratch: Scratch | undefined

/** One a process is enough: encoding and decoding never wait in the middle. */
function sharedScratch(): Scratch {
  if (scratch === undefined) {
    const kernels = createKernels()
    const [decoded, encoded] = [4 * RANGE_FLOATS, largestEncoding(RANGE_FLOATS)].map((bytes) => kernels.reserve(bytes))
    scratch = { kernels, decoded, encoded }
  }
  return scratch
}

/** A vector's payload. */
export function encodeVector(codec: Codec, vector: Float32Array): Uint8Array<ArrayBuffer> {
  const { kernels, decoded, encoded } = sharedScratch()
  const payload = new Uint8Array(payloadSize(codec, vector.length))
  for (const { index, from, to } of ranges(vector.length)) {
    kernels.floats(decoded, to - from).set(vector.subarray(from, to))
    codec.encode(kernels, decoded, to - from, encoded)
    payload.set(kernels.bytes(encoded, codec.encodedSize(to - from)), rangeOffset(codec, index))
  }
  return payload
}

/** The payloads of several vectors of `floats` floats, one after the other. */
export function encodeVectors(codec: Codec, vectors: Float32Array, floats: number): Uint8Array<ArrayBuffer> {
  if (vectors.length === floats) return encodeVector(codec, vectors)
  const size = payloadSize(codec, floats)
  const payload = new Uint8Array(size * (vectors.length / floats))
  for (let i = 0; i * floats < vectors.length; i++) {
    payload.set(encodeVector(codec, vectors.subarray(i * floats, (i + 1) * floats)), i * size)
  }
  return payload
}

/** The vector of `floats` floats that a payload holds. Throws when the payload has another length than it must. */
export function decodeVector(codec: Codec, payload: Uint8Array, floats: number): Float32Array<ArrayBuffer> {
  const expected = payloadSize(codec, floats)
  if (payload.length !== expected) {
    throw new Error(
      `expected ${expected} bytes for ${floats} floats encoded as ${codec.name}, got ${payload.length} bytes`,
    )
  }
  const { kernels, decoded, encoded } = sharedScratch()
  const vector = new Float32Array(floats)
  for (const { index, from, to } of ranges(floats)) {
    const offset = rangeOffset(codec, index)
    const size = codec.encodedSize(to - from)
    kernels.bytes(encoded, size).set(payload.subarray(offset, offset + size))
    codec.decode(kernels, encoded, to - from, decoded)
    vector.set(kernels.floats(decoded, to - from), from)
  }
  return vector
}
