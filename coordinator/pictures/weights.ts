/**
 * The weights of a layer's units over the image that they read, or, of an RBM higher up, over the image far below it.
 * A layer says which it has (`Window`) before anybody asks for its values.
 */
import type { Layout } from '../../shared/layout.ts'
import { buildModel } from '../../shared/models.ts'
import { encoder, type Stack } from '../../shared/stack.ts'
import { exported } from '../run/exported.ts'
import type { History } from '../run/history.ts'
import { type ImageShape, imageShape } from './raster.ts'

/** What each of `units` units reads. */
export interface Window {
  readonly shape: ImageShape
  readonly units: number
}

/** values[element · units + unit] */
export interface Weights extends Window {
  readonly values: Float32Array
}

/** Of the network's first layer; null where that is neither dense nor a convolution, or examples are no images. */
export function firstWindow({ spec, dataset }: History): Window | null {
  const image = imageShape(dataset.inputShape)
  const [{ name, shape }] = buildModel(spec.model, dataset, null).layout.slots
  if (image === null || !name.endsWith('/kernel')) return null
  if (shape.length === 2) return { shape: image, units: shape[1] }
  const [height, width, channels, units] = shape
  return { shape: [height, width, channels], units }
}

/** The first layer as it stands: of a stack of RBMs the first of them. */
export function firstWeights(history: History, window: Window): Weights {
  const { layout, parameters } = exported(history, 'model')!
  const [{ offset, size }] = layout.slots
  return { ...window, values: parameters.subarray(offset, offset + size) }
}

/**
 * The first `units` units of a stack's top layer as weights of the input: the product of the kernels from below, biases
 * and nonlinearities left out, as units of deep belief networks are commonly shown (Lee, Ekanadham & Ng 2008).
 */
export function carriedDown(
  { spec, dataset }: Pick<History, 'spec' | 'dataset'>,
  stack: Stack,
  units: number,
): Weights {
  const { layout, parameters } = encoder(spec.model, dataset, { stack })
  const [top, ...below] = kernelsOf(layout).reverse()
  const [inputs, all] = top.shape
  let values = new Float32Array(inputs * units)
  for (let i = 0; i < inputs; i++) {
    for (let unit = 0; unit < units; unit++) values[i * units + unit] = parameters[top.offset + i * all + unit]
  }
  for (const { offset, shape } of below) values = product(parameters.subarray(offset), shape, values, units)
  return { shape: imageShape(dataset.inputShape)!, units, values }
}

const kernelsOf = ({ slots }: Layout) => slots.filter(({ name }) => name.endsWith('/kernel'))

/** [rows, middle] · [middle, columns] */
function product(
  left: Float32Array,
  [rows, middle]: readonly number[],
  right: Float32Array,
  columns: number,
): Float32Array<ArrayBuffer> {
  const result = new Float32Array(rows * columns)
  for (let row = 0; row < rows; row++) {
    for (let j = 0; j < middle; j++) {
      const weight = left[row * middle + j]
      for (let column = 0; column < columns; column++) {
        result[row * columns + column] += weight * right[j * columns + column]
      }
    }
  }
  return result
}
