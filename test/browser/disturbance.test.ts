/**
 * What goes wrong around a tab that works: another tab dies in the middle of its lease, the coordinator goes down and
 * comes back. It costs the lease, and nobody has to do anything.
 */
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { crowdOf, detailOf, openBrowser, openTab, TAB_MS, type Tab } from '../support/browser.ts'
import { startCoordinator, until } from '../support/coordinator.ts'

const EXAMPLES = 3000
const EPOCHS = 3

/** A minibatch takes tens of milliseconds and a lease a few of them: whoever works holds a lease at any instant. */
const SPEC = {
  name: 'Disturbed',
  dataset: { name: 'mnist', train: EXAMPLES, test: 200 },
  model: { template: 'mlp', hidden: [256] },
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
  const coordinator = await startCoordinator({ ownVolunteer: true })
  try {
    const run = await coordinator.createRun(SPEC)
    const held = (volunteer: string) =>
      coordinator.runs
        .get(run.run)!
        .inspect()
        .leases.filter((lease) => lease.volunteer === volunteer && lease.state === 'started').length
    const startOne = async () => {
      const known = new Set(crowdOf(coordinator, run).map(({ volunteer }) => volunteer))
      const tab = await openTab(browser, `${coordinator.url}/?backend=wasm`)
      await startIn(tab)
      const me = () => crowdOf(coordinator, run).find(({ volunteer }) => !known.has(volunteer))
      await until('the tab works', () => (me()?.updatesAccepted ?? 0) > 0, TAB_MS)
      return { tab, volunteer: me()!.volunteer }
    }
    const [closed, crashed] = [await startOne(), await startOne()]

    const disturbances = [
      // As a person closes it: it gets no chance to tell anybody.
      { ...closed, disturb: () => closed.tab.page.close() },
      { ...crashed, disturb: () => crash(crashed.tab) },
    ]
    const stay = await startOne()
    for (const { volunteer, disturb } of disturbances) {
      await until('it is in the middle of a lease', () => held(volunteer) > 0)
      await disturb()
      const gone = () => crowdOf(coordinator, run).find((member) => member.volunteer === volunteer)!
      await until('the coordinator has noticed', () => !gone().connected)
      await until('its lease is free again', () => gone().leases === 0)
      expect(held(volunteer)).toBe(0)
    }
    expect(detailOf(coordinator, run).state).toBe('running')
    await until('the run is finished', () => detailOf(coordinator, run).state === 'finished', TAB_MS)

    const detail = detailOf(coordinator, run)
    expect({ epoch: detail.epoch, examples: detail.examples }).toEqual({ epoch: EPOCHS, examples: EPOCHS * EXAMPLES })
    const crowd = crowdOf(coordinator, run)
    expect(crowd.reduce((sum, { examples }) => sum + examples, 0)).toBe(EPOCHS * EXAMPLES)
    expect(crowd.find(({ volunteer }) => volunteer === stay.volunteer)!.examples).toBeGreaterThan(0)
    await stay.tab.page.getByRole('heading', { name: 'Training is finished' }).waitFor()
    expect(stay.tab.errors).toEqual([])
    await Promise.all([closed, crashed, stay].map(({ tab }) => tab.close()))
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
