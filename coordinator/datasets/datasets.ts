/**
 * Opens a dataset by what a RunSpec says of it: reads its files, takes the part that is asked for, and cuts it into
 * shards. Runs of the same part share its shards, and runs of the same files one copy of them.
 */
import { statSync } from 'node:fs'
import type { DatasetSpec } from '../../shared/run-spec.ts'
import { elementsOf } from '../../shared/shape.ts'
import type { Dataset } from './dataset.ts'
import type { Examples, Source } from './examples.ts'
import { readFashionMnist } from './fashion-mnist.ts'
import { readIdxFiles } from './idx-files.ts'
import { InUse } from './in-use.ts'
import { readMnist } from './mnist.ts'
import { split } from './split.ts'
import { Unfit } from './unfit.ts'

const datasets = new InUse<Dataset>()
const sources = new InUse<Source>()
/** What a dataset was cut from is in use for as long as it is. */
const cutFrom = new WeakMap<Dataset, Source>()

/** Throws Unfit where a file cannot be read, or more examples are asked for than exist, saying what there is. */
export function openDataset(spec: DatasetSpec): Dataset {
  const { train, test, validate, ...files } = spec
  const key = JSON.stringify([files, stampsOf(files as DatasetSpec)])
  return datasets.get(JSON.stringify([key, train, test, validate]), () => {
    const source = sources.get(key, () => read(spec))
    const dataset = cut(spec, source)
    cutFrom.set(dataset, source)
    return dataset
  })
}

/** Of an operator's own files, so that one that was written anew is read anew. */
function stampsOf(spec: DatasetSpec): number[] {
  if (spec.name !== 'idx') return []
  return [spec.trainInputs, spec.testInputs, spec.trainLabels, spec.testLabels].flatMap((path) => {
    try {
      const { mtimeMs, size } = statSync(path ?? '')
      return [mtimeMs, size]
    } catch {
      // Whoever reads it says what is wrong.
      return []
    }
  })
}

function read(spec: DatasetSpec): Source {
  switch (spec.name) {
    case 'mnist':
      return readMnist()
    case 'fashion-mnist':
      return readFashionMnist(spec.folder)
    case 'idx':
      return readIdxFiles(spec)
  }
}

function cut(spec: DatasetSpec, { inputShape, classes, ...all }: Source): Dataset {
  const { name, validate } = spec
  const { train, test } = validate === undefined ? all : heldOut(inputShape, all.train, validate)
  return {
    name,
    absent: null,
    inputShape,
    classes,
    train: split(name, 'training', inputShape, first('train', 'training', inputShape, train, spec.train)),
    test: split(name, 'test', inputShape, first('test', 'test', inputShape, test, spec.test)),
  }
}

const between = (size: number, { inputs, labels }: Examples, from: number, to: number): Examples => ({
  count: to - from,
  inputs: inputs.subarray(from * size, to * size),
  labels: labels.subarray(from, to),
})

/** The last `validate` training examples as the test examples, and the others as the training examples. */
function heldOut(inputShape: readonly number[], train: Examples, validate: number) {
  const { count } = train
  if (validate >= count) {
    throw new Unfit('dataset.validate', `expected 1 to ${count - 1} of the ${count} training examples, got ${validate}`)
  }
  const size = elementsOf(inputShape)
  return {
    train: between(size, train, 0, count - validate),
    test: between(size, train, count - validate, count),
  }
}

function first(
  field: 'train' | 'test',
  part: string,
  inputShape: readonly number[],
  examples: Examples,
  asked = examples.count,
): Examples {
  const { count } = examples
  if (asked > count)
    throw new Unfit(`dataset.${field}`, `expected 1 to ${count}, the ${part} examples there are, got ${asked}`)
  return between(elementsOf(inputShape), examples, 0, asked)
}
