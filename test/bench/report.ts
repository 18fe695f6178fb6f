/**
 * How a benchmark says what it found: a table for people, then, as the last line, one line of JSON for programs.
 * Figures are numbers by name; a figure `aOverB` says how many times as fast as b a is.
 */
import { execFileSync } from 'node:child_process'
import { cpus } from 'node:os'

export type Row = Readonly<Record<string, string | number>>

export function report(name: string, rows: readonly Row[], figures: Readonly<Record<string, number>>): void {
  console.log(table(rows))
  console.log()
  console.log(JSON.stringify({ bench: name, figures: rounded(figures), commit: commit(), machine: machine() }))
}

/** Columns are the keys of the rows, in order of appearance; numbers stand to the right. */
export function table(rows: readonly Row[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const isNumeric = (column: string) => rows.every((row) => typeof row[column] !== 'string')
  const lines = [columns, ...rows.map((row) => columns.map((column) => shown(row[column])))]
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => line[at].length)))
  return lines
    .map((line) =>
      line
        .map((cell, at) => (isNumeric(columns[at]) ? cell.padStart(widths[at]) : cell.padEnd(widths[at])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

function shown(cell: string | number | undefined): string {
  if (cell === undefined) return ''
  return typeof cell === 'number' ? String(toThreeDigits(cell)) : cell
}

function toThreeDigits(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3))
}

function rounded(figures: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, Number(value.toPrecision(4))]))
}

function commit(): string {
  return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim()
}

function machine(): string {
  return `${cpus()[0].model.trim()}, ${cpus().length} cores`
}
