/** Every row that can be reproduced, by name. */
import type { Row } from './row.ts'
import { asynchrony } from './rows/asynchrony.ts'
import { autoencoder } from './rows/autoencoder.ts'
import { boundedDelay } from './rows/bounded-delay.ts'
import { cnn, cnnFashion } from './rows/cnn.ts'
import { dbn, dbnLong } from './rows/dbn.ts'
import { generated } from './rows/generated.ts'
import { lbfgs } from './rows/lbfgs.ts'
import { lenet, lenetClassic } from './rows/lenet.ts'
import { rbm } from './rows/rbm.ts'
import { scaling } from './rows/scaling.ts'

/** In the order of the table. */
export const ROWS: readonly Row[] = [
  dbn,
  dbnLong,
  rbm,
  generated,
  lenet,
  lenetClassic,
  cnn,
  cnnFashion,
  autoencoder,
  lbfgs,
  scaling,
  asynchrony,
  boundedDelay,
]
