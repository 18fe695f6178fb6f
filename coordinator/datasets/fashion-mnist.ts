/**
 * Fashion-MNIST: 60,000 training and 10,000 test pictures of clothes, 28×28 grey pixels, ten classes (Xiao, Rasul,
 * Vollgraf 2017; MIT), in the form of MNIST, from the gzip-compressed files of Debian's package dataset-fashion-mnist.
 */
import { existsSync } from 'node:fs'
import type { Source } from './examples.ts'
import { readMnistFiles } from './mnist.ts'
import { Unfit } from './unfit.ts'

export function readFashionMnist(folder: string): Source {
  const hint = 'apt-get install dataset-fashion-mnist, or give dataset.folder, where its four .gz files lie'
  if (!existsSync(folder)) throw new Unfit('dataset.folder', `there is no folder ${folder}: ${hint}`)
  return readMnistFiles(folder, '.gz', 'dataset.folder', hint)
}
