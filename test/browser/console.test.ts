/**
 * The operator's console in a real browser: the token, a run from a template, live curves, pause, resume and stop, the
 * model taken away as files that the tools they are for can read; and stages, iterations and pictures of runs that have
 * them.
 */
import { readFileSync } from 'node:fs'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readMnist } from '../../coordinator/datasets/mnist.ts'
import { crowdOf, detailOf, openBrowser, openTab, TAB_MS } from '../support/browser.ts'
import { startCoordinator, type TestCoordinator, until } from '../support/coordinator.ts'
import { accuracyOf, loadFiles } from '../support/layers-model.ts'

const TEST_DIGITS = 500

let coordinator: TestCoordinator
let browser: Browser
beforeAll(async () => {
  coordinator = await startCoordinator({ ownVolunteer: true })
  browser = await openBrowser()
})
afterAll(async () => {
  await browser?.close()
  await coordinator?.close()
})

test('[O1] a wrong token is met by the form with an error, and the right one opens the console and leaves the address', async () => {
  const { page, errors, close } = await openTab(browser, `${coordinator.url}/console?token=wrong`)
  await page.getByText('The coordinator refused this token.').waitFor()
  expect(page.url()).toBe(`${coordinator.url}/console`)
  await page.getByLabel('Operator token').fill(coordinator.token)
  await page.getByRole('button', { name: 'Open the console' }).click()
  await page.getByRole('heading', { name: 'No runs yet' }).waitFor()
  await page.getByText('Live', { exact: true }).waitFor()
  expect(page.url()).not.toContain(coordinator.token)
  // The browser itself logs the answer 401.
  expect(errors.filter((error) => !error.includes('401'))).toEqual([])
  await close()
})

test('an operator creates a run, watches it live, pauses, resumes and stops it, and takes a model that reads digits', async () => {
  const { page, errors, close } = await openConsole()
  await page.getByRole('link', { name: 'Create the first run' }).click()
  expect(page.url()).toBe(`${coordinator.url}/console#/new`)

  // A mistake is named with its field and place, and cannot be sent.
  await page.getByText('One layer, 7,850 parameters.').click()
  await edit(page, (spec) => ({ ...spec, leaseSeconds: 0 }))
  const problems = page.locator('#draft-problems')
  await problems.getByText(/^leaseSeconds expected at least 0\.05, got 0 · line \d+$/).waitFor()
  const create = page.getByRole('button', { name: 'Create run' })
  expect(await create.isDisabled()).toBe(true)

  // What only the coordinator knows comes back from it, at the field as well.
  const dataset = { name: 'mnist', train: 2000, test: TEST_DIGITS }
  await edit(page, (spec) => ({ ...spec, leaseSeconds: 0.5, dataset: { ...dataset, train: 60_001 } }))
  await create.click()
  await problems.getByText('The coordinator refused these fields:').waitFor()
  await problems.getByRole('button', { name: 'dataset' }).waitFor()
  expect(coordinator.runs.list()).toEqual([])

  await page.getByLabel('Name').fill('From the console')
  await edit(page, (spec) => ({
    ...spec,
    dataset,
    strategy: { name: 'downpour', batchSize: 20, pushEvery: 2 },
    updateRule: { name: 'sgd', rate: 0.05 },
    stop: { epochs: 100_000 },
    evaluateEveryEpochs: 1,
  }))
  await create.click()
  await page.getByRole('heading', { name: 'From the console' }).waitFor()
  const [run] = coordinator.runs.list()
  expect(page.url()).toBe(`${coordinator.url}/console#/run/${run.id}`)
  expect(run.detail(Date.now())).toMatchObject({ name: 'From the console', state: 'running', parameters: 7850 })
  await page.getByText('Nobody has joined yet.').waitFor()
  await page.getByText('The first point appears with the first accepted update.').first().waitFor()

  // Curves that move by themselves.
  const volunteer = await openTab(browser, `${coordinator.url}/?backend=wasm`)
  await volunteer.page.getByRole('button', { name: 'Start helping' }).click()
  const accuracy = page.getByRole('img', { name: /^Accuracy over time\. train: [\d.]+ %, test: [\d.]+ %\.$/ })
  await accuracy.waitFor()
  const canvas = page.locator('.chart', { hasText: 'Accuracy' }).locator('canvas')
  const drawn = () => canvas.evaluate((element) => (element as HTMLCanvasElement).toDataURL())
  const [words, picture] = [await accuracy.getAttribute('aria-label'), await drawn()]
  await until('the curve has moved', async () => (await accuracy.getAttribute('aria-label')) !== words)
  await until('it is drawn anew', async () => (await drawn()) !== picture)
  const row = page.getByRole('row', { name: /wasm/ }).filter({ hasNotText: 'trusted' })
  await row.getByText('working').waitFor()

  const state = page.locator('.run-top .run-state')
  const shows = (word: string) => until(`the run is shown ${word}`, async () => (await state.textContent()) === word)
  await page.getByRole('button', { name: 'Pause' }).click()
  await shows('paused')
  expect(run.state).toBe('paused')
  await volunteer.page.getByRole('heading', { name: 'Paused by the operator' }).waitFor()
  await until('nothing is out any more', () => run.inspect().leases.length === 0)
  const { updatesAccepted } = detailOf(coordinator, { run: run.id })
  await page.getByRole('button', { name: 'Resume' }).click()
  await shows('running')
  await until('it goes on', () => crowdOf(coordinator, { run: run.id })[0].updatesAccepted > updatesAccepted)
  await until('it reads most digits', () => (detailOf(coordinator, { run: run.id }).testAccuracy ?? 0) > 0.8, TAB_MS)

  await page.getByRole('button', { name: 'Stop…' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Keep it running' }).click()
  expect(run.state).toBe('running')
  await page.getByRole('button', { name: 'Stop…' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Stop the run' }).click()
  await shows('finished')
  await until(
    'the last version is tested',
    () => run.history.series.test.at(-1)?.version === run.parameters.version,
    TAB_MS,
  )

  // The files, through the buttons.
  const [safetensors] = await take(page, 'safetensors', 1)
  const [json, weights] = await take(page, 'TensorFlow.js (2 files)', 2)
  expect([safetensors, json, weights].map(({ name }) => name)).toEqual([
    'model.safetensors',
    'model.json',
    'model.weights.bin',
  ])
  const parameters = coordinator.bits(run.id)
  expect(Buffer.compare(weights.bytes, parameters)).toBe(0)
  const headerBytes = Number(safetensors.bytes.readBigUInt64LE())
  const header = JSON.parse(safetensors.bytes.toString('utf8', 8, 8 + headerBytes)) as object
  expect(Object.values(header).map(({ dtype, shape }) => ({ dtype, shape }))).toEqual([
    { dtype: 'F32', shape: [784, 10] },
    { dtype: 'F32', shape: [10] },
  ])
  expect(Buffer.compare(safetensors.bytes.subarray(8 + headerBytes), parameters)).toBe(0)

  await pictured(page, ['Confusion matrix', 'Filters of the first layer', 'Worst mistakes'])

  // One digit of 500 may fall the other way by another order of additions.
  const tile = page.locator('.tile', { hasText: 'Test accuracy' }).locator('dd').first()
  const { testAccuracy } = detailOf(coordinator, { run: run.id })
  await until(
    'the console states it',
    async () => (await tile.textContent()) === `${(100 * testAccuracy!).toFixed(2)} %`,
  )
  const stated = Number.parseFloat((await tile.textContent())!) / 100
  expect(stated).toBeGreaterThan(0.8)
  const model = await loadFiles(json.bytes, weights.bytes)
  expect(Math.abs(accuracyOf(model, readMnist().test, TEST_DIGITS) - stated)).toBeLessThanOrEqual(
    1 / TEST_DIGITS + 1e-9,
  )

  expect(errors).toEqual([])
  await volunteer.close()
  await close()
}, 150_000)

test('every template makes a run that can be created', async () => {
  const { page, errors, close } = await openConsole('#/new')
  const templates = page.getByRole('radio')
  await templates.first().waitFor()
  const editor = page.getByLabel('RunSpec (JSON)')
  const seen: unknown[] = []
  for (const template of await templates.all()) {
    await template.check()
    expect(await page.getByRole('button', { name: 'Create run' }).isEnabled()).toBe(true)
    expect(await page.locator('#draft-problems').textContent()).toBe('')
    const { model, strategy, pretrain } = JSON.parse(await editor.inputValue())
    seen.push([model.template, strategy.name, pretrain !== undefined].join(' '))
  }
  expect(new Set(seen)).toEqual(
    new Set([
      ...['softmax downpour false', 'mlp downpour false', 'lenet downpour false', 'cnn synchronous false'],
      ...['mlp synchronous false', 'mlp sandblaster false', 'rbm downpour true', 'mlp synchronous true'],
      'autoencoder synchronous true',
    ]),
  )
  expect(errors).toEqual([])
  await close()
}, 60_000)

test('stages, iterations and pictures of a run are shown, and those of an earlier stage on request', async () => {
  const SHORT = { dataset: { name: 'mnist', train: 400, test: 100 }, codec: { up: 'f32' } }
  const steps = { name: 'synchronous', batchSize: 50, portionSize: 50 }
  const deep = await coordinator.createRun({
    ...{ ...SHORT, name: 'Deep belief', model: { template: 'mlp', hidden: [16, 9], activation: 'sigmoid' } },
    ...{ pretrain: { epochs: 2, strategy: steps }, strategy: steps, stop: { epochs: 4 } },
  })
  const { page, errors, close } = await openConsole(`#/run/${deep.run}`)
  const stages = page.getByRole('navigation', { name: 'Stages' }).getByRole('button')
  await page.getByText('0.00 of 2 epochs').waitFor()
  expect(await stages.allTextContents()).toEqual([
    'RBM 10.00 of 2 epochs',
    'RBM 22 epochs planned',
    'Fine-tuning4 epochs planned',
  ])
  expect(await stages.nth(1).isDisabled()).toBe(true)
  // Before anything is trained there is something to be seen.
  await pictured(page, ['Reconstructions', 'Filters of the first layer'])

  const volunteer = await openTab(browser, `${coordinator.url}/?backend=wasm&run=${deep.run}`)
  await volunteer.page.getByRole('button', { name: 'Start helping' }).click()
  await page.getByText('Reconstruction error').first().waitFor()
  await until('it is finished', () => coordinator.runs.get(deep.run)!.state === 'finished', TAB_MS)
  await page.getByText('4 epochs, done').waitFor()
  expect(await stages.allTextContents()).toEqual([
    'RBM 12 epochs, done',
    'RBM 22 epochs, done',
    'Fine-tuning4 epochs, done',
  ])
  const rest = ['Filters of RBM 1', 'Filters of RBM 2', 'Worst mistakes']
  await pictured(page, ['Confusion matrix', 'Reconstructions', 'Filters of the first layer', ...rest])
  await page.getByRole('img', { name: /^Accuracy over time\./ }).waitFor()
  expect(await page.getByRole('heading', { name: 'Free-energy gap' }).count()).toBe(0)
  await stages.first().click()
  await page.getByRole('img', { name: /^Reconstruction error over time\. .*test: [\d.]+\.$/ }).waitFor()
  await page.getByRole('img', { name: /^Free-energy gap over time\. test less train: -?[\d.e-]+\.$/ }).waitFor()
  expect(await page.getByRole('heading', { name: 'Accuracy' }).count()).toBe(0)
  await volunteer.close()

  const searching = await coordinator.createRun({
    ...{ ...SHORT, name: 'L-BFGS', model: { template: 'softmax' }, stop: { epochs: 3 } },
    strategy: { name: 'sandblaster', portionSize: 200 },
  })
  const other = await openTab(browser, `${coordinator.url}/?backend=wasm&run=${searching.run}`)
  await page.goto(`${coordinator.url}/console#/run/${searching.run}`)
  await page.getByText('The first point appears with the first iteration.').waitFor()
  await other.page.getByRole('button', { name: 'Start helping' }).click()
  await page.getByRole('img', { name: /^Loss of each iteration\. with regularisation: [\d.]+\.$/ }).waitFor()
  await page.locator('.tile', { hasText: 'Iteration' }).getByText('3', { exact: true }).waitFor()
  await pictured(page, ['Confusion matrix', 'Filters of the first layer', 'Worst mistakes'])
  expect(errors).toEqual([])
  await other.close()
  await close()
}, 120_000)

/** The console with the right token. It never rests, its events go on: wait for what is on it, not for its network. */
async function openConsole(place = '') {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true })
  const page = await context.newPage()
  const errors: string[] = []
  page.on('pageerror', (error) => errors.push(String(error)))
  page.setDefaultTimeout(TAB_MS)
  await page.goto(`${coordinator.url}/console?token=${coordinator.token}${place}`)
  return { page, errors, close: () => context.close() }
}

/** Waits until the run's pictures are these, every one drawn. */
async function pictured(page: Page, titles: string[]): Promise<void> {
  const shown = () =>
    page.locator('.picture').evaluateAll((figures) =>
      figures.flatMap((figure) => {
        const image = figure.querySelector('img')!
        return image.complete && image.naturalWidth > 0 ? [figure.querySelector('h3')!.textContent] : []
      }),
    )
  await until(`there are the pictures ${titles}`, async () => String(await shown()) === String(titles), TAB_MS)
}

/** Changes the RunSpec in the console's editor. */
async function edit(page: Page, change: (spec: Record<string, unknown>) => unknown): Promise<void> {
  const editor = page.getByLabel('RunSpec (JSON)')
  await editor.fill(JSON.stringify(change(JSON.parse(await editor.inputValue())), null, 2))
}

/** Presses a button of the model's panel and gathers the files that come of it. */
async function take(page: Page, button: string, count: number): Promise<{ name: string; bytes: Buffer }[]> {
  const files: Promise<{ name: string; bytes: Buffer }>[] = []
  page.on('download', (download) => {
    files.push(download.path().then((path) => ({ name: download.suggestedFilename(), bytes: readFileSync(path) })))
  })
  await page.getByRole('button', { name: button, exact: true }).click()
  await until(`${count} files have come`, () => files.length === count)
  page.removeAllListeners('download')
  return Promise.all(files)
}
