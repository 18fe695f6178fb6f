/** Every row that can be reproduced, by name. */
import type { Row, Trial } from './row.ts'
import { asynchrony } from './rows/asynchrony.ts'
import { autoencoder } from './rows/autoencoder.ts'
import { boundedDelay } from './rows/bounded-delay.ts'
import { cnn, cnnFashion } from './rows/cnn.ts'
import { dbn, dbnDropout, dbnLong } from './rows/dbn.ts'
import { dropout } from './rows/dropout.ts'
import { generated } from './rows/generated.ts'
import { lbfgs } from './rows/lbfgs.ts'
import { lenet, lenetClassic } from './rows/lenet.ts'
import { rbm } from './rows/rbm.ts'
import { mlpc, scaling } from './rows/scaling.ts'

/** In the order of the table. */
export const ROWS: readonly Row[] = [
  dbn,
  dbnLong,
  dbnDropout,
  dropout,
  rbm,
  generated,
  lenet,
  lenetClassic,
  cnn,
  cnnFashion,
  autoencoder,
  lbfgs,
  scaling,
  mlpc,
  asynchrony,
  boundedDelay,
]

const TABS = '-tabs'

/** The row with browser tabs for volunteers. Throws where it measures crowds of its own. */
export function inTabs(row: Row): Row {
  const named = (name: string) => `${name}${TABS}`
  const tabbed = (trial: Trial): Trial => {
    const { crowd, sharedWith } = trial
    if (crowd.measured !== undefined) throw new Error(`row ${row.name} measures crowds of its own: leave --tabs out`)
    return {
      ...trial,
      crowd: { ...crowd, measured: { tabs: true } },
      ...(sharedWith && { sharedWith: { ...sharedWith, row: named(sharedWith.row) } }),
    }
  }
  const { choices } = row
  return {
    ...row,
    name: named(row.name),
    title: `${row.title}, by browser tabs`,
    trials: (settings) => row.trials(settings).map(tabbed),
    ...(choices && {
      choices(settings) {
        const { trials, decides } = choices(settings)
        return { trials: trials.map(tabbed), decides }
      },
    }),
  }
}

/** In the order of the table; what is measured in tabs comes after it all. */
export function placeOf(name: string): number {
  const place = ROWS.findIndex((row) => row.name === name.replace(new RegExp(`${TABS}$`), ''))
  return name.endsWith(TABS) ? ROWS.length + place : place
}
