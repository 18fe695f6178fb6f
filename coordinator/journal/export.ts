/**
 * A run's parameters as files that people's own tools read: safetensors, and the LayersModel of TensorFlow.js. Both are
 * copies: the parameters may go on changing while a file is being sent.
 */
import type { Layout } from '../../shared/layout.ts'
import type { Topology } from '../../shared/topology.ts'

/**
 * https://huggingface.co/docs/safetensors: u64 length of the header | header, JSON padded with spaces to a multiple of
 * 8 | the tensors, in the layout's order and under its names, without gaps. `metadata` is the header's `__metadata__`.
 */
export function safetensors(
  { slots, size }: Layout,
  parameters: Float32Array,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  checkSize(size, parameters)
  const tensors = slots.map(({ name, shape, offset, size }) => [
    name,
    { dtype: 'F32', shape, data_offsets: [4 * offset, 4 * (offset + size)] },
  ])
  const described = Object.keys(metadata).length === 0 ? [] : [['__metadata__', metadata]]
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries([...described, ...tensors])))
  const headerBytes = Math.ceil(json.length / 8) * 8
  const file = new Uint8Array(8 + headerBytes + 4 * size)
  new DataView(file.buffer).setBigUint64(0, BigInt(headerBytes), true)
  file.fill(0x20, 8, 8 + headerBytes)
  file.set(json, 8)
  file.set(bytesOf(parameters), 8 + headerBytes)
  return file
}

export interface LayersModel {
  /** The file that `tf.loadLayersModel` is given the address of. */
  readonly json: string
  /** `weightsFile`. */
  readonly weights: Uint8Array<ArrayBuffer>
}

/** `weightsFile`: where the JSON says its weights lie, relative to itself. */
export function layersModel(
  topology: Topology,
  { slots, size }: Layout,
  parameters: Float32Array,
  weightsFile: string,
): LayersModel {
  checkSize(size, parameters)
  const json = JSON.stringify({
    format: 'layers-model',
    generatedBy: 'Crowdgrad',
    convertedBy: null,
    modelTopology: topology,
    weightsManifest: [
      { paths: [weightsFile], weights: slots.map(({ name, shape }) => ({ name, shape, dtype: 'float32' })) },
    ],
  })
  return { json, weights: new Uint8Array(bytesOf(parameters)) }
}

function checkSize(size: number, parameters: Float32Array): void {
  if (parameters.length !== size) {
    throw new Error(`invariant: the layout has ${size} parameters, the vector ${parameters.length}`)
  }
}

/** Both formats are little-endian, as every machine that runs Node is. */
const bytesOf = (floats: Float32Array) => new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength)
