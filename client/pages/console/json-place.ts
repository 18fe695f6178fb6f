/** Where a field stands in a JSON text, so that a complaint about it can be shown at its place. */

export interface Place {
  from: number
  to: number
  /** Counted from 1. */
  line: number
}

/**
 * The place of a dotted path ("strategy.pushEvery", "model.hidden.0"), or of the nearest enclosing field that is
 * there, for a field that is missing; null when nothing of the path is. The text must be valid JSON.
 */
export function placeOf(text: string, path: string): Place | null {
  const wanted = path.split('.')
  let best: { from: number; to: number; depth: number } | null = null
  let at = 0

  const skip = () => {
    while (/\s/.test(text[at] ?? '')) at++
  }
  const string = (): string => {
    const from = at++
    while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1
    return JSON.parse(text.slice(from, ++at)) as string
  }
  const member = (from: number, key: string, depth: number, onPath: boolean) => {
    const here = onPath && wanted[depth] === key
    value(depth + 1, here)
    if (here && (best === null || best.depth < depth + 1)) best = { from, to: at, depth: depth + 1 }
  }
  const value = (depth: number, onPath: boolean) => {
    skip()
    if (text[at] === '{' || text[at] === '[') {
      const list = text[at++] === '['
      for (let i = 0; ; i++) {
        skip()
        if (text[at] === ',') at++
        skip()
        if (text[at] === '}' || text[at] === ']') break
        const from = at
        const key = list ? String(i) : string()
        if (!list) at = text.indexOf(':', at) + 1
        member(from, key, depth, onPath)
      }
      at++
    } else if (text[at] === '"') {
      string()
    } else {
      while (at < text.length && !/[\s,\]}]/.test(text[at])) at++
    }
  }

  value(0, true)
  const found = best as { from: number; to: number } | null
  if (found === null) return null
  return { from: found.from, to: found.to, line: text.slice(0, found.from).split('\n').length }
}
