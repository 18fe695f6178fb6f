/**
 * What came out, written down: a JSON file a row with every value, a plot, and the section of RESULTS.md between the
 * markers, which is made anew from all those files each time.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { parseRunSpec } from '../../../shared/run-spec.ts'
import { svg } from './chart.ts'
import { judge } from './judge.ts'
import type { Places } from './places.ts'
import type { Claim, Outcome, Outcomes, Row, Trial } from './row.ts'
import { placeOf } from './rows.ts'

/** A result as it is kept. */
export interface Result {
  readonly row: string
  readonly title: string
  readonly command: string
  readonly seeds: readonly number[]
  readonly claims: readonly Claim[]
  readonly remarks: readonly string[]
  readonly outcomes: readonly Outcome[]
}

const BEGIN = '<!-- reproduce -->'
const END = '<!-- /reproduce -->'
const DIGITS = 9

export function writeResult(row: Row, outcomes: Outcomes, command: string, places: Places): Result {
  const all = [...outcomes.values()]
  const result: Result = {
    row: row.name,
    title: row.title,
    command,
    seeds: [...new Set(all.map(({ seed }) => seed))],
    claims: row.claims(outcomes),
    remarks: row.remarks?.(outcomes) ?? [],
    outcomes: all,
  }
  write(join(places.results, `${row.name}.json`), asJson(result))
  write(join(places.plots, `${row.name}.svg`), svg(row.charts(outcomes)))
  writePage(places)
  return result
}

/** A PNG that lies beside the plots. */
export function writePicture(name: string, png: Uint8Array, { plots }: Places): void {
  write(join(plots, `${name}.png`), png)
}

/** What is written down of a trial with these settings; null where nothing is. */
export function writtenDown({ name }: Row, { name: trial, spec, crowd }: Trial, { results }: Places): Outcome | null {
  const file = join(results, `${name}.json`)
  if (!existsSync(file)) return null
  const { outcomes } = JSON.parse(readFileSync(file, 'utf8')) as Result
  const settings = (of: Pick<Outcome, 'trial' | 'spec' | 'volunteers' | 'pace'>) =>
    // What has become a setting since then is at its default: that is what it was. Its name is for people.
    JSON.parse(asJson([of.trial, parseRunSpec({ ...of.spec, name: undefined }), of.volunteers, of.pace]))
  const wanted = settings({ trial, spec, volunteers: crowd.volunteers, pace: crowd.measured?.pace ?? null })
  return outcomes.find((outcome) => isDeepStrictEqual(settings(outcome), wanted)) ?? null
}

/**
 * Measured numbers to a few digits, and lists of numbers and points on one line: it is read, and compared, by people
 * too.
 */
export function asJson(value: unknown): string {
  const rounded = (_: string, inner: unknown) =>
    typeof inner === 'number' && !Number.isInteger(inner) ? Number(inner.toPrecision(DIGITS)) : inner
  const oneLine = (list: string) => list.replace(/\s+/g, ' ')
  const text = JSON.stringify(value, rounded, 2)
  return `${text.replace(/\[[\s\d.,eE+-]+\]/g, oneLine).replace(/\[\s*(\[[^[\]]*\],?\s*)+\]/g, oneLine)}\n`
}

/** The page with its section made anew; what is not between the markers stays as it is. */
function writePage({ page, results, plotsFromPage }: Places): void {
  const before = existsSync(page) ? readFileSync(page, 'utf8') : `# Results\n\n${BEGIN}\n${END}\n`
  const [begin, end] = [before.indexOf(BEGIN), before.indexOf(END)]
  if (begin < 0 || end < begin) throw new Error(`${page} has no section between ${BEGIN} and ${END}`)
  const files = readdirSync(results).filter((file) => file.endsWith('.json'))
  const read = files.map((file) => JSON.parse(readFileSync(join(results, file), 'utf8')) as Result)
  read.sort((a, b) => placeOf(a.row) - placeOf(b.row))
  write(page, `${before.slice(0, begin)}${BEGIN}\n\n${section(read, plotsFromPage)}\n${before.slice(end)}`)
}

export function section(results: readonly Result[], plots: string): string {
  return `## Reference figures, reproduced

Written by \`npm run reproduce -- <row>\` from \`test/bench/reproduce/results/\`; not to be edited by hand. A run is tested
after its last iteration only. What is judged is the mean over the seeds, or the worst value where the figure is a
largest one.

| row | figure | reference | measured: mean (min to max) | measured over reference | reach | aim |
|---|---|---|---|---|---|---|
${results.flatMap(({ row, claims, seeds }) => claims.map((claim, i) => claimLine(i === 0 ? `[${row}](${plots}/${row}.svg)` : '', claim, seeds.length))).join('\n')}

| row | command after \`npm run\` | seeds | volunteers | examples/s of each | running s a run | updates a run | mean staleness | MB up, down a run | commit | machine | date |
|---|---|---|---|---|---|---|---|---|---|---|---|
${results.map(conditionsLine).join('\n')}
${results.flatMap(({ row, remarks }) => remarks.map((remark) => `\n${row}: ${remark}\n`)).join('')}`
}

function claimLine(row: string, claim: Claim, seeds: number): string {
  const { figure, unit, reference, source, better } = claim
  const { mean, min, max, ratio, reached, aimed } = judge(claim)
  const bound = (value: number | null, met: boolean | null): string => {
    if (value === null) return ''
    const sign = { lower: '≤', higher: '≥', near: '±' }[better]
    const words = better === 'near' ? `${100 * value} %` : `${value}${unit}`
    const by = seeds === 1 ? ' by one seed' : ''
    return met === true ? `${sign} ${words}: met${by}` : `${sign} ${words}: **not met**`
  }
  const cells = [
    row,
    figure,
    reference === null ? source : `${reference}${unit} (${source})`,
    `${digits(mean, better === 'near' ? [] : [claim.reach, claim.aim])}${unit} (${digits(min)} to ${digits(max)})`,
    ratio === null ? '' : digits(ratio),
    bound(claim.reach, reached),
    bound(claim.aim, aimed),
  ]
  return `| ${cells.join(' | ')} |`
}

function conditionsLine({ row, command, seeds, outcomes: all }: Result): string {
  // A trial that only judges another has no figures of its own.
  const outcomes = all.filter(({ figures }) => Object.keys(figures).length > 0)
  const each = (of: (outcome: Outcome) => string) => [...new Set(outcomes.map(of))].join('; ')
  const span = (of: (outcome: Outcome) => number, shown: (value: number) => string) => {
    const all = outcomes.map(of).sort((a, b) => a - b)
    const ends = [...new Set([shown(all[0]), shown(all[all.length - 1])])]
    return ends.join(' to ')
  }
  const whole = (value: number) => String(Math.round(value))
  const megabytes = (value: number) => String(Number((value / 1e6).toPrecision(3)))
  const down = outcomes.flatMap(({ bytesDown }) => (bytesDown === null ? [] : [bytesDown]))
  const cells = [
    row,
    `\`${command}\``,
    seeds.join(', '),
    each(({ volunteers }) => String(volunteers)),
    each(({ pace }) => (pace === null ? 'as fast as it goes' : [pace].flat().join(' and '))),
    span(({ seconds }) => seconds, whole),
    span(({ updates }) => updates, whole),
    span(({ meanStaleness }) => meanStaleness, digits),
    `${span(({ bytesUp }) => bytesUp, megabytes)}, ${down.length === 0 ? 'not known' : [...new Set([Math.min(...down), Math.max(...down)].map(megabytes))].join(' to ')}`,
    each(({ commit }) => commit),
    each(({ machine }) => machine),
    [...new Set(outcomes.map(({ date }) => date.slice(0, 10)))].sort().join('; '),
  ]
  return `| ${cells.join(' | ')} |`
}

/** Three digits, and more where without them it would seem to lie on another side of a bound. */
export function digits(value: number, bounds: readonly (number | null)[] = []): string {
  const told = (rounded: number) =>
    bounds.every((bound) => bound === null || Math.sign(rounded - bound) === Math.sign(value - bound))
  const precision = [3, 4, 5, 6].find((some) => told(Number(value.toPrecision(some)))) ?? 7
  const rounded = Number(value.toPrecision(precision))
  return rounded !== 0 && Math.abs(rounded) < 1e-3 ? rounded.toExponential() : String(rounded)
}

function write(file: string, text: string | Uint8Array): void {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
}
