/**
 * What goes wrong around a tab that works: another tab dies in the middle of its lease, the coordinator goes down and
 * comes back. It costs the lease, and nobody has to do anything.
 */
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { crowdOf, detailOf, openBrowser, openTab, TAB_MS, type Tab } from '../support/browser.ts'
import { startCoordinator, until } from '../support/coordinator.ts'

const EXAMPLES = 4000
const EPOCHS = 5

/** A lease takes some hundredths of a second, the whole run some seconds: time enough to be disturbed in. */
const SPEC = {
  name: 'Disturbed',
  dataset: { name: 'mnist', train: EXAMPLES, test: 200 },
  model: { template: 'mlp', hidden: [512] },
  strategy: { name: 'downpour', batchSize: 50, pushEvery: 4, maxStaleness: 1000 },
  updateRule: { name: 'sgd', rate: 0.05 },
  stop: { epochs: EPOCHS },
  evaluateEveryEpochs: 0,
  leaseSeconds: 1,
} as const

let browser: Browser
beforeAll(async () => {
  browser = await openBrowser()
})
afterAll(() => browser?.close())

const startIn = ({ page }: Tab) => page.getByRole('button', { name: 'Start helping' }).click()

test('[E1] [E2] a tab that is closed, and one that crashes, cost their leases only: every example counts once an epoch', async () => {
  let aheadMs = 0
  const coordinator = await startCoordinator({ ownVolunteer: true, now: () => Date.now() + aheadMs })
  try {
    const run = await coordinator.createRun(SPEC)
    const leases = () => coordinator.runs.get(run.run)!.inspect().leases
    const works = (volunteer: string) =>
      leases().some((lease) => lease.volunteer === volunteer && lease.state === 'started')
    const join = async () => {
      const known = new Set(crowdOf(coordinator, run).map(({ volunteer }) => volunteer))
      const tab = await openTab(browser, `${coordinator.url}/?backend=wasm`)
      await startIn(tab)
      const newcomer = () => crowdOf(coordinator, run).find(({ volunteer }) => !known.has(volunteer))
      await until('the tab has joined', () => newcomer(), TAB_MS)
      return { tab, volunteer: newcomer()!.volunteer }
    }
    // Nothing is computed before all of them are there.
    await coordinator.api('POST', `/api/runs/${run.run}/pause`)
    const [closed, crashed, stays] = [await join(), await join(), await join()]
    await stays.tab.page.getByRole('heading', { name: 'Paused by the operator' }).waitFor()
    await coordinator.api('POST', `/api/runs/${run.run}/resume`)

    const of = (volunteer: string) => crowdOf(coordinator, run).find((member) => member.volunteer === volunteer)!
    for (const { volunteer } of [closed, crashed]) {
      await until('it is in the middle of a lease, and not its first', () => {
        return of(volunteer).updatesAccepted > 0 && works(volunteer)
      })
    }
    await Promise.all([closed.tab.page.close(), crash(crashed.tab)])
    for (const { volunteer } of [closed, crashed]) {
      await until('the coordinator has noticed', () => !of(volunteer).connected)
    }
    const left = [of(closed.volunteer), of(crashed.volunteer)].map(({ updatesAccepted }) => updatesAccepted)
    const others = of(stays.volunteer).updatesAccepted
    await until('the other tab goes on', () => of(stays.volunteer).updatesAccepted > others)

    // A tab that crashes gives nothing back: what it had begun, if it was not just between two leases, stays out until
    // it expires, and only that.
    const held = leases().filter(({ volunteer }) => volunteer === crashed.volunteer)
    expect(held.map(({ state }) => state)).toEqual(held.map(() => 'started'))
    const finished = () => detailOf(coordinator, run).state === 'finished'
    const waits = () => leases().every(({ volunteer }) => volunteer === crashed.volunteer)
    await until('nothing else is left to do', () => finished() || waits(), TAB_MS)
    aheadMs = 600_000
    await until('the run is finished', finished, TAB_MS)
    for (const [i, { volunteer }] of [closed, crashed].entries()) {
      expect(of(volunteer)).toMatchObject({ connected: false, leases: 0, updatesAccepted: left[i] })
    }

    const detail = detailOf(coordinator, run)
    expect({ epoch: detail.epoch, examples: detail.examples }).toEqual({ epoch: EPOCHS, examples: EPOCHS * EXAMPLES })
    expect(crowdOf(coordinator, run).reduce((sum, { examples }) => sum + examples, 0)).toBe(EPOCHS * EXAMPLES)
    await stays.tab.page.getByRole('heading', { name: 'Training is finished' }).waitFor()
    expect(stays.tab.errors).toEqual([])
    await Promise.all([closed, crashed, stays].map(({ tab }) => tab.close()))
  } finally {
    await coordinator.close()
  }
}, 120_000)

test('[G4] a tab whose coordinator is started again comes back by itself as the same volunteer, and goes on', async () => {
  const before = await startCoordinator()
  const run = await before.createRun({ ...SPEC, stop: { epochs: 100_000 } })
  const port = Number(new URL(before.url).port)
  const tab = await openTab(browser, `${before.url}/?backend=wasm`)
  const { page } = tab
  const identity = () => page.evaluate(() => localStorage.getItem('crowdgrad.identity'))
  await startIn(tab)
  await until('the tab works', () => (crowdOf(before, run)[0]?.updatesAccepted ?? 0) >= 3, TAB_MS)
  const { volunteer } = crowdOf(before, run)[0]
  const token = await identity()
  expect(token).not.toBeNull()

  await before.stop()
  await page.getByRole('heading', { name: 'Reconnecting' }).waitFor()
  await page.getByText('It keeps trying by itself').waitFor()
  const counted = detailOf(before, run).examples

  const after = await startCoordinator({ port, dataFolder: before.folder })
  try {
    expect(detailOf(after, run)).toMatchObject({ state: 'running', examples: counted })
    await until('it is back at work', () => (crowdOf(after, run)[0]?.updatesAccepted ?? 0) >= 3, TAB_MS)
    expect(crowdOf(after, run).map((member) => member.volunteer)).toEqual([volunteer])
    expect(detailOf(after, run).examples).toBeGreaterThan(counted)
    await page.getByRole('heading', { name: 'Helping right now' }).waitFor()
    expect(await identity()).toBe(token)
    expect(tab.workers()).toBe(1)
  } finally {
    await tab.close()
    await after.close()
  }
}, 120_000)

async function crash({ page }: Tab): Promise<void> {
  const devtools = await page.context().newCDPSession(page)
  const crashed = page.waitForEvent('crash')
  // There is nobody left to answer.
  devtools.send('Page.crash').catch(() => {})
  await crashed
}
