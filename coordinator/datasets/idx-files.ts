/**
 * A dataset of the operator's own: IDX files of unsigned bytes by their paths. Of inputs the first dimension counts the
 * examples; what is left is an example's shape, images without channels being given one: [n, 28, 28] → [28, 28, 1].
 */
import type { Examples, Source } from './examples.ts'
import { readIdx } from './idx.ts'
import { Unfit } from './unfit.ts'

interface IdxPaths {
  readonly trainInputs: string
  readonly testInputs: string
  readonly trainLabels?: string
  readonly testLabels?: string
}

/** Throws Unfit where a file cannot be read, or files do not belong together, naming them. */
export function readIdxFiles(paths: IdxPaths): Source {
  const train = readInputs('dataset.trainInputs', paths.trainInputs)
  const test = readInputs('dataset.testInputs', paths.testInputs)
  if (String(train.shape) !== String(test.shape)) {
    throw new Unfit(
      'dataset.testInputs',
      `${paths.testInputs} does not go with ${paths.trainInputs}: expected examples of ` +
        `${train.shape.join(' × ')}, got ${test.shape.join(' × ')}`,
    )
  }
  const labels = {
    train: readLabels('dataset.trainLabels', paths.trainLabels, train.count),
    test: readLabels('dataset.testLabels', paths.testLabels, test.count),
  }
  return {
    inputShape: train.shape,
    classes: 1 + Math.max(largest(labels.train), largest(labels.test)),
    train: { count: train.count, inputs: train.inputs, labels: labels.train },
    test: { count: test.count, inputs: test.inputs, labels: labels.test },
  }
}

const MISSING = "expected a path on the coordinator's machine"

function readInputs(field: string, path: string): Omit<Examples, 'labels'> & { shape: number[] } {
  const { dimensions, bytes } = readIdx(path, field, MISSING)
  const [count, ...shape] = dimensions
  if (shape.length === 0 || shape.length > 3 || bytes.length === 0) {
    throw new Unfit(
      field,
      `${path} holds no inputs: expected examples × elements, × height × width, or × height × width × channels, ` +
        `got ${dimensions.join(' × ')}`,
    )
  }
  return { count, inputs: bytes, shape: shape.length === 2 ? [...shape, 1] : shape }
}

function readLabels(field: string, path: string | undefined, count: number): Uint8Array {
  if (path === undefined) return new Uint8Array(count)
  const { dimensions, bytes } = readIdx(path, field, MISSING)
  if (dimensions.length !== 1 || dimensions[0] !== count) {
    throw new Unfit(
      field,
      `${path} holds other labels: expected ${count}, one an example, got ${dimensions.join(' × ')}`,
    )
  }
  return bytes
}

/** A loop, since Math.max takes no 60,000 arguments for granted. */
const largest = (labels: Uint8Array) => labels.reduce((most, label) => Math.max(most, label), 0)
