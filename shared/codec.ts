/**
 * Codecs: a vector of floats to bytes and back. A payload is the concatenation of its ranges' encodings
 * (layout.ts), so any range can be decoded without the others, straight out of a socket's buffer.
 */
import type { CodecName } from './run-spec.ts'

export type { CodecName }
