// Copyright (c) 2026, exchange.mitigation contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Looks at pages in headless Chromium. stdin: {chromium, axe, jobs: [{page, shots: {NAME: {width, height, scheme, full, file}}, pdf, axe: [schemes], tab, filter}]}.
// stdout, per page: what was requested, said, dialogs, times, axe's findings, and whether scripts of the page ran.
import {readFileSync} from 'node:fs';
import puppeteer from 'puppeteer-core';

const order = JSON.parse(readFileSync(0, 'utf8'));
const axe = readFileSync(order.axe, 'utf8');
const browser = await puppeteer.launch({executablePath: order.chromium, headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage']});
const answers = [];
for (const job of order.jobs) {
  const page = await browser.newPage();
  const answer = {page: job.page, requests: [], console: [], dialogs: [], axe: {}, times: {}};
  page.on('request', (request) => { if (request.url() !== 'file://' + job.page) answer.requests.push(request.url()); });
  page.on('console', (message) => answer.console.push(message.text()));
  page.on('pageerror', (error) => answer.console.push(String(error)));
  page.on('dialog', async (dialog) => { answer.dialogs.push(dialog.message()); await dialog.dismiss(); });
  await page.setViewport({width: 1366, height: 900});
  const begun = Date.now();
  await page.goto('file://' + job.page, {waitUntil: 'load'});
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  answer.times.wall = Date.now() - begun;
  answer.times.load = await page.evaluate(() => performance.timing.loadEventEnd - performance.timing.navigationStart);
  answer.times.paint = await page.evaluate(() => (performance.getEntriesByName('first-contentful-paint')[0] || {}).startTime);
  answer.elements = await page.evaluate(() => document.querySelectorAll('*').length);
  answer.title = await page.title();
  answer.ran = await page.evaluate(() => window.ran === undefined ? null : String(window.ran));
  answer.scripts = await page.evaluate(() => document.querySelectorAll('script,iframe,object,embed,img,[onerror],[onload],[onclick]').length);
  answer.wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  for (const [name, shot] of Object.entries(job.shots || {})) {
    await page.setViewport({width: shot.width, height: shot.height, deviceScaleFactor: shot.scale || 1});
    await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: shot.scheme}]);
    answer[name + '_wide'] = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
    await page.screenshot({path: shot.file, fullPage: shot.full});
  }
  await page.setViewport({width: 1366, height: 900});
  if (job.pdf) await page.pdf({path: job.pdf, format: 'A4', printBackground: true, preferCSSPageSize: true, timeout: 240000});
  if (job.filter) {
    // A click on a filter and on a tile, timed to the next frame; then where they led.
    answer.filter = await page.evaluate(async () => {
      const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      const rows = () => [...document.querySelectorAll('.matrix tbody tr')].filter((row) => row.getClientRects().length).length;
      const before = rows();
      const buttons = [...document.querySelectorAll('.filters input')];
      const result = {before, steps: []};
      for (const button of buttons) {
        const start = performance.now();
        button.click();
        await frame();
        const label = document.querySelector(`label[for="${button.id}"]`).textContent;
        result.steps.push({label, rows: rows(), ms: Math.round(performance.now() - start)});
      }
      buttons[0].click();
      const box = document.querySelector('.tall');
      if (box) {
        box.scrollTop = 500; box.scrollLeft = 50;
        await frame();
        const head = document.querySelector('.tall thead th').getBoundingClientRect();
        const outer = box.getBoundingClientRect();
        result.sticky = Math.abs(head.top - outer.top) < 3 && Math.abs(head.left - outer.left) < 3;
      }
      return result;
    });
  }
  if (job.tab) {
    // By keyboard alone: what gets the focus, and whether that can be seen.
    answer.tab = [];
    await page.evaluate(() => { document.activeElement.blur(); window.scrollTo(0, 0); });
    for (let count = 0; count < job.tab; count += 1) {
      await page.keyboard.press('Tab');
      answer.tab.push(await page.evaluate(() => {
        const at = document.activeElement;
        const target = at.matches('input') ? document.querySelector(`label[for="${at.id}"]`) : at;
        const style = getComputedStyle(target);
        return {tag: at.tagName, text: (at.textContent || at.id || '').trim().slice(0, 40), seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2};
      }));
    }
    answer.opened = await page.evaluate(async () => {
      const link = document.querySelector('.fleet a');
      link.click();
      await new Promise((done) => setTimeout(done, 100));
      const target = document.getElementById(link.getAttribute('href').slice(1));
      return target.closest('details').open && target.getClientRects().length > 0;
    });
  }
  for (const scheme of job.axe || []) {
    await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: scheme}]);
    await page.evaluate(() => document.querySelectorAll('details').forEach((element) => { element.open = true; }));
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run(document, {resultTypes: ['violations', 'incomplete']}));
    answer.axe[scheme] = {
      passes: found.passes.length,
      violations: found.violations.map((rule) => ({id: rule.id, impact: rule.impact, help: rule.help, nodes: rule.nodes.slice(0, 3).map((node) => node.html.slice(0, 200) + ' | ' + node.failureSummary.slice(0, 300))})),
      incomplete: found.incomplete.map((rule) => ({id: rule.id, impact: rule.impact, nodes: rule.nodes.length})),
    };
  }
  await page.close();
  answers.push(answer);
}
await browser.close();
console.log(JSON.stringify(answers));
