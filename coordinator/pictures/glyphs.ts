/**
 * A tiny bitmap font, 5 pixels wide and 7 high: digits, and the few other characters that pictures are lettered with.
 * Drawn for Crowdgrad.
 */

export const GLYPH_WIDTH = 5
export const GLYPH_HEIGHT = 7

const SHEETS: readonly { readonly characters: string; readonly rows: string }[] = [
  {
    characters: '0123456789',
    rows: `
.###.  ..#..  .###.  #####  ...#.  #####  ..##.  #####  .###.  .###.
#...#  .##..  #...#  ...#.  ..##.  #....  .#...  ....#  #...#  #...#
#..##  ..#..  ....#  ..#..  .#.#.  ####.  #....  ...#.  #...#  #...#
#.#.#  ..#..  ...#.  ...#.  #..#.  ....#  ####.  ..#..  .###.  .####
##..#  ..#..  ..#..  ....#  #####  ....#  #...#  .#...  #...#  ....#
#...#  ..#..  .#...  #...#  ...#.  #...#  #...#  .#...  #...#  ...#.
.###.  .###.  #####  .###.  ...#.  .###.  .###.  .#...  .###.  .##..
`,
  },
  {
    characters: '.→TRUEPDIC',
    rows: `
.....  .....  #####  ####.  #...#  #####  ####.  ####.  .###.  .###.
.....  ..#..  ..#..  #...#  #...#  #....  #...#  #...#  ..#..  #...#
.....  ...#.  ..#..  #...#  #...#  #....  #...#  #...#  ..#..  #....
.....  #####  ..#..  ####.  #...#  ####.  ####.  #...#  ..#..  #....
.....  ...#.  ..#..  #.#..  #...#  #....  #....  #...#  ..#..  #....
.##..  ..#..  ..#..  #..#.  #...#  #....  #....  #...#  ..#..  #...#
.##..  .....  ..#..  #...#  .###.  #####  #....  ####.  .###.  .###.
`,
  },
]

const GLYPHS: ReadonlyMap<string, readonly string[]> = new Map(
  SHEETS.flatMap(({ characters, rows }) => {
    const cells = rows
      .trim()
      .split('\n')
      .map((row) => row.split(/\s+/))
    return [...characters].map((character, i) => [character, cells.map((row) => row[i])] as const)
  }),
)

/** The character's rows from above, `#` for ink. Throws where the font lacks it. */
export function glyph(character: string): readonly string[] {
  const rows = GLYPHS.get(character)
  if (rows === undefined) throw new Error(`invariant: the font has no "${character}"`)
  return rows
}
