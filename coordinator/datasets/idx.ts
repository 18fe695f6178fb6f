/**
 * Reads IDX, the format of the MNIST files: two zero bytes, a type byte, a rank byte, the dimensions as big-endian
 * u32, then the elements, the last dimension running fastest. Only unsigned bytes are read, the one type these data
 * sets use. The elements are a view of the file's bytes, not a copy.
 */
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { elementsOf } from '../../shared/shape.ts'
import { Unfit } from './unfit.ts'

interface Idx {
  /** [60000, 28, 28] */
  readonly dimensions: readonly number[]
  /** Π dimensions bytes. */
  readonly bytes: Uint8Array
}

const UNSIGNED_BYTE = 0x08
/** The first two bytes of a gzip file. */
const GZIP = [0x1f, 0x8b]

/**
 * Reads a file, gzip-compressed or not. Throws Unfit where it cannot be read or is not such a file; `field` is what
 * names it in the RunSpec, and `hint` says what the operator may do about a file that is missing.
 */
export function readIdx(path: string, field: string, hint: string): Idx {
  let file: Uint8Array
  try {
    file = readFileSync(path)
  } catch (cause) {
    throw new Unfit(field, `cannot read ${path}: ${hint}`, cause)
  }
  try {
    if (file[0] === GZIP[0] && file[1] === GZIP[1]) file = gunzipSync(file)
    // Not as a Buffer, whose `slice` is no copy.
    return parseIdx(new Uint8Array(file.buffer, file.byteOffset, file.byteLength))
  } catch (cause) {
    throw new Unfit(field, `${path} is not an IDX file: ${(cause as Error).message}`, cause)
  }
}

/** Throws where the bytes are not such a file, saying what was expected. */
export function parseIdx(file: Uint8Array): Idx {
  if (file.length < 4) throw new Error(`expected at least 4 bytes, got ${file.length}`)
  const [zero, zero2, type, rank] = file
  if (zero !== 0 || zero2 !== 0) throw new Error(`expected it to begin with two zero bytes, got ${zero} and ${zero2}`)
  if (type !== UNSIGNED_BYTE) throw new Error(`expected element type 8 (unsigned byte), got ${type}`)
  const header = 4 + 4 * rank
  if (rank === 0 || file.length < header) throw new Error(`rank ${rank} is not possible in ${file.length} bytes`)
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const dimensions = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i, false))
  const expected = header + elementsOf(dimensions)
  if (file.length !== expected) {
    throw new Error(`expected ${expected} bytes for dimensions ${dimensions.join(' × ')}, got ${file.length}`)
  }
  return { dimensions, bytes: file.subarray(header) }
}
