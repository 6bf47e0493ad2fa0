/** On a phone: a button with the chosen metric that opens the list over the page. */
import { Button, Drawer } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { ChevronIcon } from './icons';
import { MetricList } from './MetricList';

interface MetricPickerProps {
  selected: string | null;
  onSelect: (metric: string) => void;
}

export function MetricPicker({ selected, onSelect }: MetricPickerProps) {
  const [isOpen, drawer] = useDisclosure(false);
  const pick = (metric: string) => {
    drawer.close();
    onSelect(metric);
  };
  return (
    <>
      <Button
        variant="default" size="sm" justify="space-between" fullWidth style={{ flex: 'none' }}
        rightSection={<ChevronIcon />} onClick={drawer.open} data-testid="metric-picker"
      >
        {selected ?? 'Choose a metric'}
      </Button>
      <Drawer opened={isOpen} onClose={drawer.close} title="Metrics" size="100%" padding="xs">
        <MetricList selected={selected} onSelect={pick} />
      </Drawer>
    </>
  );
}
