// Reads an AsyncAPI document with AsyncAPI's own parser, which checks it by the specification's schemas and rules.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const [installed, path] = process.argv.slice(2)
const { Parser } = createRequire(`${installed}/`)('@asyncapi/parser')
const { document, diagnostics } = await new Parser().parse(readFileSync(path, 'utf8'))
for (const found of diagnostics) {
  console.log(`${path}: ${found.path.join('/')}: ${found.message} (${found.code})`)
}
process.exit(document && diagnostics.length === 0 ? 0 : 1)
