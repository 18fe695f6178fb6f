/**
 * Reads IDX, the format of the MNIST files: two zero bytes, a type byte, a rank byte, the dimensions as big-endian
 * u32, then the elements, the last dimension running fastest. Only unsigned bytes are read, the one type these data
 * sets use. The elements are a view of the file's bytes, not a copy.
 */

import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'

export interface Idx {
  /** [60000, 28, 28] */
  readonly dimensions: readonly number[]
  /** Π dimensions bytes. */
  readonly bytes: Uint8Array
}

const UNSIGNED_BYTE = 0x08
/** The first two bytes of a gzip file. */
const GZIP = [0x1f, 0x8b]

/**
 * Reads a file, gzip-compressed or not. Throws where it cannot be read or is not such a file; `hint` says what the
 * operator may do about a file that is missing.
 */
export function readIdx(path: string, hint: string): Idx {
  let file: Uint8Array
  try {
    file = readFileSync(path)
  } catch (cause) {
    throw new Error(`cannot read ${path}: ${hint}`, { cause })
  }
  if (file[0] === GZIP[0] && file[1] === GZIP[1]) {
    try {
      file = gunzipSync(file)
    } catch (cause) {
      throw new Error(`${path} is not the gzip file it begins as: ${(cause as Error).message}`, { cause })
    }
  }
  // Not as a Buffer, whose `slice` is no copy.
  return parseIdx(new Uint8Array(file.buffer, file.byteOffset, file.byteLength), path)
}

/** Throws where the bytes are not such a file, saying what was expected; `name` is what the error calls the file. */
export function parseIdx(file: Uint8Array, name: string): Idx {
  const wrong = (what: string) => new Error(`${name} is not an IDX file as expected: ${what}`)
  if (file.length < 4) throw wrong(`expected at least 4 bytes, got ${file.length}`)
  const [zero, zero2, type, rank] = file
  if (zero !== 0 || zero2 !== 0) {
    const gzip = zero === 0x1f && zero2 === 0x8b ? ' (it is gzip-compressed: unpack it first)' : ''
    throw wrong(`expected it to begin with two zero bytes, got ${zero} and ${zero2}${gzip}`)
  }
  if (type !== UNSIGNED_BYTE) throw wrong(`expected element type 8 (unsigned byte), got ${type}`)
  const header = 4 + 4 * rank
  if (rank === 0 || file.length < header) throw wrong(`rank ${rank} is not possible in ${file.length} bytes`)
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const dimensions = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i, false))
  const expected = header + dimensions.reduce((product, dimension) => product * dimension, 1)
  if (file.length !== expected) {
    throw wrong(`expected ${expected} bytes for dimensions ${dimensions.join(' × ')}, got ${file.length}`)
  }
  return { dimensions, bytes: file.subarray(header) }
}
